-- Which shop's customers are imported next, by Redis' clock. A shop's score is when it
-- is due, in microseconds: so fine that two never have the same; while an instance has
-- it, when it is to be had again.
--
-- KEYS  a sorted set of shops
-- ARGV  milliseconds; and, to change a shop that one has, the shop and its score.
--       Milliseconds below 0 remove it.
--
-- With two more: whether it was had. Without: the shop that was taken and its score, or
-- nothing.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local shop = ARGV[2]
if shop then
  local score = redis.call('ZSCORE', KEYS[1], shop)
  if not score or tonumber(score) ~= tonumber(ARGV[3]) then return {} end
  if tonumber(ARGV[1]) < 0 then
    redis.call('ZREM', KEYS[1], shop)
    return {shop, '0'}
  end
else
  shop = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)[1]
  if not shop then return {} end
end
local due = string.format('%.0f', now + tonumber(ARGV[1]) * 1000)
redis.call('ZADD', KEYS[1], due, shop)
return {shop, due}
