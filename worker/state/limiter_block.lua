-- Block the account after it was told to slow down; once for each blocking period, halve its rate. Microseconds.
-- KEYS[1] the account's slowdown: factor, until (end of the block, where recovery starts), strikes
-- ARGV[1] the server's own delay, or -1   ARGV[2] jitter, 0..1   ARGV[3] first back-off   ARGV[4] longest back-off
-- ARGV[5] smallest factor   ARGV[6] recovery time   ARGV[7] quiet time after which strikes are forgotten
-- returns how long the account is blocked from now
local clock = redis.call("TIME")
local now = clock[1] * 1000000 + clock[2]
local slow = redis.call("HMGET", KEYS[1], "factor", "until", "strikes")
local factor, blocked_until, strikes = tonumber(slow[1] or 1), tonumber(slow[2] or 0), tonumber(slow[3] or 0)
local delay, recovery, quiet = tonumber(ARGV[1]), tonumber(ARGV[6]), tonumber(ARGV[7])

if now >= blocked_until then
  local recovered = math.min(factor + (now - blocked_until) / recovery, 1)
  factor = math.max(recovered / 2, tonumber(ARGV[5]))
  if now - blocked_until > quiet then strikes = 0 end
  if delay < 0 then delay = math.min(tonumber(ARGV[3]) * 2 ^ strikes, tonumber(ARGV[4])) * tonumber(ARGV[2]) end
  strikes = strikes + 1
end
blocked_until = math.max(blocked_until, now + delay)

redis.call("HSET", KEYS[1], "factor", tostring(factor), "until", string.format("%.0f", blocked_until), "strikes", strikes)
redis.call("PEXPIRE", KEYS[1], math.ceil((blocked_until - now + recovery + quiet) / 1000))
return math.floor(blocked_until - now)
