-- Count distinct members, up to a bound.
-- KEYS[1] set   ARGV[1] member   ARGV[2] bound   ARGV[3] seconds to keep it   returns how many there are
if redis.call("SCARD", KEYS[1]) < tonumber(ARGV[2]) then
  redis.call("SADD", KEYS[1], ARGV[1])
  redis.call("EXPIRE", KEYS[1], ARGV[3])
end
return redis.call("SCARD", KEYS[1])
