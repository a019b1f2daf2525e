-- Reserve time slots, evenly paced in every scope at once and never more than a horizon ahead. Microseconds.
-- The first scope is shared by all others: its slots lie close, whatever the others must wait for. A slot of
-- it may be used up to `shift` later than it lies, which is what a slower scope needs to reserve ahead.
-- A lane's share has a pace of its own. Slots within it may lie further ahead than others, so that no lane can
-- fill the line before what another has its share of; which slots there are is the scopes' matter alone.
-- KEYS[1] the account's slowdown   KEYS[2] until when the lane has used its share   KEYS[3..] when each scope's
-- next slot is free
-- ARGV[1] slots wanted   ARGV[2] horizon   ARGV[3] horizon of slots within the share   ARGV[4] share, 0..1
-- ARGV[5] how far ahead of its pace a share may be used   ARGV[6] shift
-- ARGV[7] how much idle time may be caught up   ARGV[8] recovery time of a slowdown
-- ARGV[9..] each scope's interval between slots
-- returns {now, blocked for, factor in millionths, wait for the first slot not reserved,
--          wait before asking again, due time of each slot from now ...}
local clock = redis.call("TIME")
local now = clock[1] * 1000000 + clock[2]
local wanted, horizon, own_horizon, share = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local ahead, shift = tonumber(ARGV[5]), tonumber(ARGV[6])

local slow = redis.call("HMGET", KEYS[1], "factor", "until")
local blocked_until = tonumber(slow[2] or now)
local factor = tonumber(slow[1] or 1) + math.max(now - blocked_until, 0) / tonumber(ARGV[8])
factor = math.min(factor, 1)
local earliest = blocked_until > now and blocked_until or now - tonumber(ARGV[7])

local due, interval = {}, {}
for scope = 1, #KEYS - 2 do
  interval[scope] = tonumber(ARGV[8 + scope]) / factor
  -- What lies further ahead than this was reserved at a lower rate, or before the clock was set back.
  local furthest = math.max(now, earliest) + math.max(horizon, own_horizon) + shift + interval[scope]
  local free = tonumber(redis.call("GET", KEYS[2 + scope]) or math.max(now, earliest))
  due[scope] = math.max(math.min(free, furthest), earliest)
end

local used_until, own_interval = math.huge, math.huge
if share > 0 then
  own_interval = interval[1] / share
  used_until = tonumber(redis.call("GET", KEYS[2]) or now)
  used_until = math.max(math.min(used_until, now + ahead + own_interval), now)
end

local function next_slot()
  return math.max(unpack(due))
end

local function reach()
  return used_until <= now + ahead and own_horizon or horizon
end

local answer = {now, math.max(blocked_until - now, 0), math.floor(factor * 1000000), 0, 0}
for _ = 1, wanted do
  local slot = next_slot()
  if slot > now + reach() or slot > math.max(due[1], now) + shift then break end
  answer[#answer + 1] = math.floor(slot - now)
  if used_until <= now + ahead then used_until = used_until + own_interval end
  due[1] = due[1] + interval[1]
  for scope = 2, #due do due[scope] = slot + interval[scope] end
end

local function keep(key, time)
  redis.call("SET", key, string.format("%.0f", time), "PX", math.ceil(math.max(time - now, 0) / 1000) + 1000)
end

if #answer > 5 then
  for scope = 1, #due do keep(KEYS[2 + scope], due[scope]) end
  if share > 0 then keep(KEYS[2], used_until) end
end
local slot = next_slot()
local reachable = math.min(slot - horizon, math.max(slot - own_horizon, used_until - ahead))
answer[4] = math.max(math.floor(slot - now), 0)
answer[5] = math.max(math.floor(math.max(reachable - now, slot - shift - math.max(due[1], now))), 0)
return answer
