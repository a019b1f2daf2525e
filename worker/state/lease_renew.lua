-- Extend our lease, or take it again when it vanished (a flush of Redis, a pause longer than the lease).
-- KEYS[1] lease   ARGV[1] token   ARGV[2] milliseconds   returns 0 when another has it, 1 when it was ours, 2 when
-- it is ours again
local holder = redis.call("GET", KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
return holder and 1 or 2
