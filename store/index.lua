-- The beginning of save.lua and forget.lua: tombstones, and the index, which leads from a shopper's
-- other id to the shopper's cached value. A cached value begins with the name of the other id. A
-- name is ten bytes.
--
-- KEYS  the shop's record
-- ARGV  generation; prefix of the shop's keys; prefix of the index's keys; milliseconds that a
--       tombstone lasts
local shop, index = ARGV[2], ARGV[3]
local none = string.rep('\0', 10)
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local same = redis.call('GETRANGE', KEYS[1], 5, 12) == ARGV[1]

local function key(kind, name)
  return shop .. kind .. string.gsub(name, '.', function(c) return string.format('%02x', string.byte(c)) end)
end

local function bucket(name) return index .. string.format('%02x', string.byte(name)) end
local function field(name) return string.sub(name, 2) end

local function unindex(other, name)
  if other ~= none and redis.call('HGET', bucket(other), field(other)) == name then
    redis.call('HDEL', bucket(other), field(other))
  end
end

local function forget(name)
  local other = redis.call('GETRANGE', key('c:', name), 0, 9)
  if other ~= '' then
    unindex(other, name)
    redis.call('UNLINK', key('c:', name))
  end
  redis.call('SET', key('x:', name), string.format('%.0f', now), 'PX', ARGV[4])
end

