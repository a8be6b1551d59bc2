-- Writes a shop's record unless there is one, and returns the record that is now in Redis.
--
-- KEYS  the record
-- ARGV  the record that may be replaced, "" none; the new record
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return held end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
