-- A shard is compacted: add its counts to the sums, once, and drop those of its chunks.
-- KEYS[1] sums   KEYS[2] bitmap of the shards in them   KEYS[3] done   ARGV[1] shard   ARGV[2] counts as JSON
-- ARGV[3..] names of its chunks   returns 1 when the sums did not hold it yet
local function add(counts, prefix)
  for name, value in pairs(counts) do
    if type(value) == "table" then
      add(value, prefix .. name .. ".")
    else
      redis.call("HINCRBY", KEYS[1], prefix .. name, value)
    end
  end
end

local first = redis.call("SETBIT", KEYS[2], ARGV[1], 1) == 0
if first then add(cjson.decode(ARGV[2]), "") end
for i = 3, #ARGV do redis.call("HDEL", KEYS[3], ARGV[i]) end
return first and 1 or 0
