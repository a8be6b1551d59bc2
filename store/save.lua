-- Saves the cached values of shoppers, each with its entry in the index, all at once.
--
-- An entry is not saved if the shop's record is gone or was replaced, or if its shopper or its
-- record at Recharge was erased or has moved since Recharge was asked, or if Recharge was asked
-- longer ago than half the time that a tombstone lasts. A record belongs to one shopper, so another
-- shopper who was cached by it is forgotten.
--
-- KEYS  the shop's record; the lock
-- ARGV  as in index.lua; the holder of the lock to release, "" none; milliseconds that a bucket of
--       the index and a redaction last; and for each entry: its name and the name of its other id
--       (zeros: none); the name of its redaction; when Recharge was asked, in microseconds; the
--       version that it may replace, or "!" for anything, even a redaction; the value; its
--       milliseconds
--
-- Returns how many were saved, or -1 if the record is gone or was replaced, or -2 if some are too
-- old.
local saved, late = 0, false

local function gone(name, at)
  local tombstone = name ~= none and redis.call('GET', key('x:', name))
  return tombstone and tonumber(tombstone) >= at
end

local function save(name, other, redaction, at, replaces, value, life)
  if replaces ~= '!' and redis.call('PEXPIRE', key('d:', redaction), ARGV[7]) == 1 then return end
  local held = redis.call('GETRANGE', key('c:', name), 0, 21)
  local last, version = string.sub(held, 1, 10), string.sub(held, 11)
  if replaces ~= '!' and version ~= replaces then return end
  if at > 0 and (now - at > tonumber(ARGV[4]) * 500 or at > now) then
    late = true -- a tombstone may have expired, or the clock was set back
    return
  end
  if gone(name, at) or gone(other, at) then return end
  if held ~= '' and last ~= other then unindex(last, name) end
  if other ~= none then
    local before = redis.call('HGET', bucket(other), field(other))
    if before and before ~= name then forget(before) end
    redis.call('HSET', bucket(other), field(other), name)
    redis.call('PEXPIRE', bucket(other), ARGV[6])
  end
  redis.call('SET', key('c:', name), value, 'PX', life)
  if replaces == '!' then redis.call('DEL', key('d:', redaction)) end
  saved = saved + 1
end

if same then
  for i = 8, #ARGV, 7 do
    save(ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
  end
end
if ARGV[5] ~= '' and redis.call('GET', KEYS[2]) == ARGV[5] then redis.call('DEL', KEYS[2]) end
if not same then return -1 end
if late then return -2 end
return saved
