-- Runs commands only if a shop's record is still the given one, so that erased data does not come
-- back.
--
-- KEYS  the record; all other keys that the commands change
-- ARGV  generation, "" for no record; and for each command: its name, the number of its arguments, the arguments
--
-- Returns 1, or 0 if another record is there, or none.
if redis.call('GETRANGE', KEYS[1], 5, 12) ~= ARGV[1] then return 0 end
local i = 2
while i <= #ARGV do
  local last = i + 1 + tonumber(ARGV[i + 1])
  redis.call(ARGV[i], unpack(ARGV, i + 2, last))
  i = last + 1
end
return 1
