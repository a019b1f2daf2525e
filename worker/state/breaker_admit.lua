-- May a call be made? While calling is off, one probe in every so many seconds may.
-- KEYS[1] breaker   ARGV[1] seconds between probes
-- returns 0 yes, -1 yes as a probe, otherwise the milliseconds until the next probe
local opened, probe_at = unpack(redis.call("HMGET", KEYS[1], "opened", "probe_at"))
if not opened then return 0 end
local clock = redis.call("TIME")
local now = clock[1] + clock[2] / 1000000
local wait = probe_at - now
-- A wait longer than a whole interval means that the clock was set back.
if wait > 0 and wait <= ARGV[1] + 1 then return math.ceil(wait * 1000) end
redis.call("HSET", KEYS[1], "probe_at", string.format("%.6f", now + ARGV[1]), "probed", 1)
redis.call("EXPIRE", KEYS[1], 600)
return -1
