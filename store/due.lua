-- Leases the next shop whose customers are due for an import, by Redis' clock. A shop's score is
-- when it is due, in microseconds, so that no two are the same. While an instance has the lease,
-- the score is when the lease ends.
--
-- KEYS  a sorted set of shops
-- ARGV  milliseconds until the shop is due again; to change a lease, also the shop and its score.
--       Negative milliseconds remove the shop.
--
-- Returns the shop and its new score, or nothing if none is due or the lease is lost.
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
