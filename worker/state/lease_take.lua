-- Take a chunk that nobody holds; its message has left the queue whoever holds it.
-- KEYS[1] lease   KEYS[2] parked   KEYS[3..] published, of each lane   ARGV[1] token   ARGV[2] milliseconds   ARGV[3] chunk id
-- returns 1 when it is ours, also when a call before whose reply was lost took it
for lane = 3, #KEYS do redis.call("ZREM", KEYS[lane], ARGV[3]) end
local taken = redis.call("SET", KEYS[1], ARGV[1], "NX", "PX", ARGV[2])
if not taken and redis.call("GET", KEYS[1]) ~= ARGV[1] then return 0 end
redis.call("ZREM", KEYS[2], ARGV[3])
return 1
