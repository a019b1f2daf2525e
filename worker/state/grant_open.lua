-- Let the calls of a grant be drawn: once, and only if Redis forgot nothing since before the grant was written,
-- which the ticket tells. A grant that is not opened counts as spent.
-- KEYS[1] ticket   KEYS[2] what of the cap's grants is open: left, through, number, server
-- ARGV[1] ticket   ARGV[2] number   ARGV[3] calls   ARGV[4] calls granted through it   ARGV[5] seconds to keep it
-- returns 1 when it is open
local SECTION = "server"
local server = string.match(redis.call("INFO", SECTION), "run_id:(%x+)")
local ticket = redis.call("GET", KEYS[1])
if ticket ~= ARGV[1] or string.sub(ticket, 1, #server) ~= server then return 0 end
redis.call("DEL", KEYS[1])
if redis.call("HGET", KEYS[2], "server") ~= server then redis.call("DEL", KEYS[2]) end
redis.call("HSET", KEYS[2], "server", server)
redis.call("HINCRBY", KEYS[2], "left", ARGV[3])
if tonumber(ARGV[2]) > tonumber(redis.call("HGET", KEYS[2], "number") or 0) then
  redis.call("HSET", KEYS[2], "number", ARGV[2], "through", ARGV[4])
end
redis.call("EXPIRE", KEYS[2], ARGV[5])
return 1
