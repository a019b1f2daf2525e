-- Note that the run store holds all of a journal, unless Redis forgot some of it since it was read.
-- KEYS[1] journal   ARGV[1] its field for this note   ARGV[2] the reader's token   ARGV[3] number of files
-- returns 1 when it is noted
if redis.call("HGET", KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[3])
return 1
