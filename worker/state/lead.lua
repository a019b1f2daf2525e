-- Lead for a while, or resign: of several like processes one does what one is enough for.
-- KEYS[1] leader   ARGV[1] token   ARGV[2] milliseconds, 0: resign   returns 1 unless another one leads
local holder = redis.call("GET", KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) > 0 then
  redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
else
  redis.call("DEL", KEYS[1])
end
return 1
