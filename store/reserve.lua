-- Takes calls out of a token's leaky bucket, by the rule of recharge.Bucket.Grant and, if asked to,
-- acquires the lock on a shopper with them.
--
-- KEYS  the bucket, which holds when it will be empty, in microseconds since 1970, and so is equally
--       full for an instance that does not know yet that Recharge has changed the burst and, with
--       it, the rate; the lock, and the shopper's cached value
-- ARGV  rate in calls a microsecond; burst; longest wait in microseconds; how much must be free for
--       a normal and for a background call; high, normal and background calls; unreported calls;
--       the fewest calls in the bucket; the lock's holder and its milliseconds; the most calls in
--       the bucket; the version of the cached value that was loaded, "" none; 1 if the holder knows
--       that it has the lock, which it does not if the last answer was lost
--
-- Returns -2 if the cached value has changed, -1 if the lock is held, 0 if granted or 1 if refused;
-- high, normal and background calls granted; the wait in microseconds; calls in the bucket; and the
-- time now, in microseconds since 1970.
local rate, burst, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local free = {0, tonumber(ARGV[4]), tonumber(ARGV[5])}
local asked = {tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

if KEYS[2] then
  local held = redis.call('GET', KEYS[2])
  if held and held ~= ARGV[11] then return {'-1', '0', '0', '0', '0', '0', '0'} end
  local mine = held and ARGV[15] == '1'
  if not mine and redis.call('GETRANGE', KEYS[3], 10, 21) ~= ARGV[14] then
    if held then redis.call('DEL', KEYS[2]) end
    return {'-2', '0', '0', '0', '0', '0', '0'}
  end
end

local before = tonumber(redis.call('GET', KEYS[1]) or '0')
local was = math.max(0, (before - now) * rate)
local level = math.max(0, math.min(was, tonumber(ARGV[13])) + tonumber(ARGV[9]), tonumber(ARGV[10]))
local granted, wait, refused = {0, 0, 0}, 0, 0
for i = 1, 3 do
  local delay = math.max(0, (level + asked[i] - burst) / rate)
  local most = longest
  if i == 3 then most = 0 end
  if asked[i] > 0 and refused == 0 and (free[i] == 0 or burst - level >= free[i]) and delay <= most then
    granted[i] = asked[i]
    level = level + asked[i]
    if granted[1] == 0 or i == 1 then wait = math.max(wait, delay) end
  elseif i == 1 and asked[i] > 0 then
    refused = 1
  end
end
if granted[1] + granted[2] + granted[3] == 0 then refused = 1 end

if level ~= was then
  redis.call('SET', KEYS[1], string.format('%.0f', now + level / rate), 'PX', math.ceil(level / rate / 1000) + 1000)
end
if KEYS[2] and refused == 0 then
  redis.call('SET', KEYS[2], ARGV[11], 'PX', ARGV[12])
end
return {tostring(refused), tostring(granted[1]), tostring(granted[2]), tostring(granted[3]),
  string.format('%.0f', wait), string.format('%.6f', level), string.format('%.0f', now)}
