-- Take calls from the open grants of all caps at once, or from none of them.
-- KEYS[1] ticket   KEYS[2..] what of a cap's grants is open: left, through (calls granted so far), number, server
-- ARGV[1] calls wanted   ARGV[2] seconds that a ticket lasts   ARGV[3..] each cap, -1 for none
-- returns {calls taken, 0, ""}, or {0, the cap that has nothing left (from 1), a ticket to open a grant}
-- What another server process counted is void: a restart may have brought back an older count.
local SECTION = "server"
local server = string.match(redis.call("INFO", SECTION), "run_id:(%x+)")
local taken = tonumber(ARGV[1])
for i = 2, #KEYS do
  local cap, free = tonumber(ARGV[i + 1]), 0
  local open = redis.call("HMGET", KEYS[i], "server", "left", "through")
  if open[1] == server then
    free = tonumber(open[2])
    if cap >= 0 then free = math.min(free, cap - open[3] + free) end
  end
  if free < 1 then
    local clock = redis.call("TIME")
    local ticket = server .. ":" .. clock[1] .. ":" .. clock[2]
    redis.call("SET", KEYS[1], ticket, "EX", ARGV[2])
    return {0, i - 1, ticket}
  end
  taken = math.min(taken, free)
end
for i = 2, #KEYS do redis.call("HINCRBY", KEYS[i], "left", -taken) end
return {taken, 0, ""}
