-- A chunk's part exists: count it, drop what it needed while it was open. True whoever holds the lease by now.
-- KEYS[1] lease   KEYS[2] done   KEYS[3] progress   KEYS[4] journal   KEYS[5] undo   KEYS[6] parked
-- KEYS[7] delivered   KEYS[8..] published, of each lane   ARGV[1] token   ARGV[2] chunk name   ARGV[3] chunk id   ARGV[4] counts as JSON
-- The first counts stay: whoever finds the part already there knows less, as rows tell nothing of throttling.
redis.call("HSETNX", KEYS[2], ARGV[2], ARGV[4])
redis.call("HDEL", KEYS[3], ARGV[2])
redis.call("DEL", KEYS[4], KEYS[5], KEYS[7])
redis.call("ZREM", KEYS[6], ARGV[3])
for lane = 8, #KEYS do redis.call("ZREM", KEYS[lane], ARGV[3]) end
if redis.call("GET", KEYS[1]) == ARGV[1] then redis.call("DEL", KEYS[1]) end
return 1
