-- Give a chunk back, if it is ours; with a delay, it is parked: not to be published before that.
-- KEYS[1] lease   KEYS[2] parked   ARGV[1] token   ARGV[2] chunk id   ARGV[3] seconds to park, or -1
-- returns 1 when it was ours
if redis.call("GET", KEYS[1]) ~= ARGV[1] then return 0 end
local clock = redis.call("TIME")
local seconds = tonumber(ARGV[3])
if seconds >= 0 then
  redis.call("ZADD", KEYS[2], string.format("%.3f", clock[1] + clock[2] / 1000000 + seconds), ARGV[2])
end
redis.call("DEL", KEYS[1])
return 1
