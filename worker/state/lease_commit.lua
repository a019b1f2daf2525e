-- A chunk's part exists: count it, drop what it needed while it was open. True whoever holds the lease by now.
-- KEYS[1] lease   KEYS[2] done   KEYS[3] progress   KEYS[4] journal   KEYS[5] undo   KEYS[6] published
-- KEYS[7] parked   KEYS[8] delivered   ARGV[1] token   ARGV[2] chunk name   ARGV[3] chunk id   ARGV[4] counts as JSON
-- The first counts stay: whoever finds the part already there knows less, as rows tell nothing of throttling.
redis.call("HSETNX", KEYS[2], ARGV[2], ARGV[4])
redis.call("HDEL", KEYS[3], ARGV[2])
redis.call("DEL", KEYS[4], KEYS[5], KEYS[8])
redis.call("ZREM", KEYS[6], ARGV[3])
redis.call("ZREM", KEYS[7], ARGV[3])
if redis.call("GET", KEYS[1]) == ARGV[1] then redis.call("DEL", KEYS[1]) end
return 1
