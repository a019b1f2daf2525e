-- Reserve time slots, evenly paced in every scope at once and never more than a horizon ahead. Microseconds.
-- The first scope is shared by all others: its slots lie close, whatever the others must wait for. A slot of
-- it may be used up to `shift` later than it lies, which is what a slower scope needs to reserve ahead.
-- KEYS[1] the account's slowdown   KEYS[2..] when each scope's next slot is free
-- ARGV[1] slots wanted   ARGV[2] horizon   ARGV[3] shift   ARGV[4] how much idle time may be caught up
-- ARGV[5] recovery time of a slowdown   ARGV[6..] each scope's interval between slots
-- returns {now, blocked for, factor in millionths, wait for the first slot not reserved,
--          wait before asking again, due time of each slot from now ...}
local clock = redis.call("TIME")
local now = clock[1] * 1000000 + clock[2]
local wanted, horizon, shift = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local slow = redis.call("HMGET", KEYS[1], "factor", "until")
local blocked_until = tonumber(slow[2] or now)
local factor = tonumber(slow[1] or 1) + math.max(now - blocked_until, 0) / tonumber(ARGV[5])
factor = math.min(factor, 1)
local earliest = blocked_until > now and blocked_until or now - tonumber(ARGV[4])

local due, interval = {}, {}
for scope = 1, #KEYS - 1 do
  interval[scope] = tonumber(ARGV[5 + scope]) / factor
  -- What lies further ahead than this was reserved at a lower rate, or before the clock was set back.
  local furthest = math.max(now, earliest) + horizon + shift + interval[scope]
  local free = tonumber(redis.call("GET", KEYS[1 + scope]) or math.max(now, earliest))
  due[scope] = math.max(math.min(free, furthest), earliest)
end

local function next_slot()
  return math.max(unpack(due))
end

local answer = {now, math.max(blocked_until - now, 0), math.floor(factor * 1000000), 0, 0}
for _ = 1, wanted do
  local slot = next_slot()
  if slot > now + horizon or slot > math.max(due[1], now) + shift then break end
  answer[#answer + 1] = math.floor(slot - now)
  due[1] = due[1] + interval[1]
  for scope = 2, #due do due[scope] = slot + interval[scope] end
end

for scope = 1, #due do
  local life = math.ceil(math.max(due[scope] - now, 0) / 1000) + 1000
  if #answer > 5 then redis.call("SET", KEYS[1 + scope], string.format("%.0f", due[scope]), "PX", life) end
end
local slot = next_slot()
answer[4] = math.max(math.floor(slot - now), 0)
answer[5] = math.max(math.floor(math.max(slot - horizon - now, slot - shift - math.max(due[1], now))), 0)
return answer
