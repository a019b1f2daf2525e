-- Cache a run's control, unless a newer one is there: who read the files earlier may come later.
-- KEYS[1] control   ARGV[1] control as JSON   ARGV[2] its number   ARGV[3] seconds to believe it
local cached = redis.call("GET", KEYS[1])
if cached and cjson.decode(cached).n > tonumber(ARGV[2]) then return 0 end
redis.call("SET", KEYS[1], ARGV[1], "EX", ARGV[3])
return 1
