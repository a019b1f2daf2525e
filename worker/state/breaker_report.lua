-- Count calls that ended; switch calling off when too many failed, on again when a probe succeeded. Seconds.
-- An image that fails again while nothing succeeds tells nothing new: the last images of a run may all be bad ones.
-- KEYS[1] breaker: "ok:SECOND" and "bad:SECOND" counts, streak, image1, image2 … of the streak, opened, reason,
--   probe_at, probed
-- ARGV[1] successes   ARGV[2] failures after them, 0 or 1   ARGV[3] the failed image   ARGV[4] 1: unreachable
-- ARGV[5] seconds between probes   returns 1 when calling is off
local WINDOW, MIN_CALLS, MIN_SHARE = 30, 20, 0.5
local STREAK = 6
local key, KEEP = KEYS[1], 600
local clock = redis.call("TIME")
local second, now = tonumber(clock[1]), clock[1] + clock[2] / 1000000
local successes, failures = tonumber(ARGV[1]), tonumber(ARGV[2])

if successes > 0 then
  local opened, probed = unpack(redis.call("HMGET", key, "opened", "probed"))
  if opened and probed then redis.call("DEL", key) end
  redis.call("HINCRBY", key, "ok:" .. second, successes)
  redis.call("HDEL", key, "streak")
  for slot = 1, STREAK do redis.call("HDEL", key, "image" .. slot) end
end

local function is_news(image)
  for slot = 1, STREAK do
    local seen = redis.call("HGET", key, "image" .. slot)
    if seen == image then return false end
    if not seen then return redis.call("HSET", key, "image" .. slot, image) end
  end
  return true
end

if failures > 0 and (ARGV[4] == "1" or is_news(ARGV[3])) then
  redis.call("HINCRBY", key, "bad:" .. second, 1)
  redis.call("HINCRBY", key, "streak", 1)
end
redis.call("EXPIRE", key, KEEP)

local fields, count = {}, {ok = 0, bad = 0}
local stored = redis.call("HGETALL", key)
for i = 1, #stored, 2 do
  local kind, at = string.match(stored[i], "^(%a+):(%d+)$")
  if not kind then
    fields[stored[i]] = stored[i + 1]
  elseif tonumber(at) <= second - WINDOW then
    redis.call("HDEL", key, stored[i])
  else
    count[kind] = count[kind] + tonumber(stored[i + 1])
  end
end
if fields.opened then return 1 end
if failures == 0 then return 0 end

local reason
local calls, streak = count.ok + count.bad, tonumber(fields.streak or 0)
if calls >= MIN_CALLS and count.bad >= MIN_SHARE * calls then
  reason = string.format("%d of %d calls failed within %d s", count.bad, calls, WINDOW)
elseif streak >= STREAK then
  reason = string.format("%d calls failed in a row", streak)
end
if not reason then return 0 end
redis.call("HSET", key, "opened", string.format("%.3f", now), "reason", reason)
redis.call("HSET", key, "probe_at", string.format("%.6f", now + ARGV[5]))
return 1
