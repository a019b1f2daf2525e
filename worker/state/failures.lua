-- Count images that ended, over the last N to 2N of them: one half fills while the one before it is kept whole.
-- Run twice, it counts twice; that moves a share by little, and nothing else hangs on it.
-- KEYS[1] hash: images, failed (of the half that fills), images_before, failed_before
-- ARGV[1] images   ARGV[2] failed ones among them   ARGV[3] N   ARGV[4] seconds to keep it
-- returns {images, failed} of both halves
local images = redis.call("HINCRBY", KEYS[1], "images", ARGV[1])
local failed = redis.call("HINCRBY", KEYS[1], "failed", ARGV[2])
local before = redis.call("HMGET", KEYS[1], "images_before", "failed_before")
if images >= tonumber(ARGV[3]) then
  redis.call("HSET", KEYS[1], "images_before", images, "failed_before", failed, "images", 0, "failed", 0)
end
redis.call("EXPIRE", KEYS[1], ARGV[4])
return {images + (before[1] or 0), failed + (before[2] or 0)}
