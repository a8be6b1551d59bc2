-- Forgets the shoppers who are cached under some ids, and leaves tombstones, so that a save in
-- progress does not bring them back.
--
-- KEYS  the shop's record
-- ARGV  as in index.lua; the name of a redaction to set, "" none, and its milliseconds; the names
--       of the ids
--
-- Returns 1, or 0 if the record is gone or was replaced.
if not same then return 0 end
for i = 7, #ARGV do
  local indexed = redis.call('HGET', bucket(ARGV[i]), field(ARGV[i]))
  if indexed then
    forget(indexed)
    redis.call('HDEL', bucket(ARGV[i]), field(ARGV[i]))
  end
  forget(ARGV[i])
end
if ARGV[5] ~= '' then redis.call('SET', key('d:', ARGV[5]), '1', 'PX', ARGV[6]) end
return 1
