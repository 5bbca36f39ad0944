-- KEYS: when each start was last there; what it said of itself; the flag that the cluster is
-- watched. The request: its id, what it says, and the newest change that it has seen.

local LIVE, FORGET, MOST_STARTS = 3000, 60000, 10000
local REPLICAS, INFO, WATCHED = KEYS[1], KEYS[2], KEYS[3]

local function forget(starts)
  for i = 1, #starts, 500 do
    local last = math.min(i + 499, #starts)
    redis.call('ZREM', REPLICAS, unpack(starts, i, last))
    redis.call('HDEL', INFO, unpack(starts, i, last))
  end
end

local is_new = redis.call('ZADD', REPLICAS, whole(NOW), REQUEST.id) == 1
redis.call('HSET', INFO, REQUEST.id, REQUEST.info)
forget(redis.call('ZRANGEBYSCORE', REPLICAS, '-inf', '(' .. whole(NOW - FORGET), 'LIMIT', 0, 500))
forget(redis.call('ZRANGEBYSCORE', REPLICAS, '(' .. whole(NOW + FORGET), '+inf', 'LIMIT', 0, 500))
if is_new then
  local count = redis.call('ZCARD', REPLICAS)
  if count > MOST_STARTS then
    forget(redis.call('ZRANGE', REPLICAS, 0, count - MOST_STARTS - 1))
  end
  -- What was evicted from the one is left in the other. Within a second all have said it again.
  if redis.call('HLEN', INFO) > 2 * count + 1000 then
    redis.call('DEL', INFO)
    redis.call('HSET', INFO, REQUEST.id, REQUEST.info)
  end
end
-- A version ahead of the clock is forged, or of before the clock went back.
local latest, newest = NOW + 1000, number(redis.call('HMGET', INFO, 'newest')[1])
if REQUEST.seen <= latest and (REQUEST.seen > newest or newest > latest) then
  newest = REQUEST.seen
  redis.call('HSET', INFO, 'newest', whole(newest))
elseif newest > latest then
  newest = 0
end
local live = redis.call('ZCOUNT', REPLICAS, whole(NOW - LIVE), whole(NOW + LIVE))
local watched = redis.call('EXISTS', WATCHED) == 1
return head() .. ',"live":' .. whole(live) .. ',"watched":' .. tostring(watched)
  .. ',"newest":' .. whole(newest) .. '}'
