-- Writes a shop's record unless there is one, and returns the one that holds.
--
-- KEYS  the record
-- ARGV  what it may replace, "" nothing; the new one
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return held end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
