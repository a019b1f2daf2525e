-- Give a chunk back, if it is ours; with a delay, it is parked: not to be published before that.
-- What was told of its jobs while we had it is no reason to wait: then it is due at once.
-- KEYS[1] lease   KEYS[2] parked   KEYS[3] delivered
-- ARGV[1] token   ARGV[2] chunk id   ARGV[3] seconds to park, or -1   ARGV[4] how much was heard, or -1: wait anyway
-- returns 1 when it was ours
if redis.call("GET", KEYS[1]) ~= ARGV[1] then return 0 end
local clock = redis.call("TIME")
local seconds, heard = tonumber(ARGV[3]), tonumber(ARGV[4])
local news = heard >= 0 and redis.call("HLEN", KEYS[3]) > heard
if seconds >= 0 and not news then
  redis.call("ZADD", KEYS[2], string.format("%.3f", clock[1] + clock[2] / 1000000 + seconds), ARGV[2])
end
redis.call("DEL", KEYS[1])
return 1
