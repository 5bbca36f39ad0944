-- KEYS: as for a heartbeat. Returns of each start its id, how long it has been silent, and what it
-- said of itself.

local FORGET = 60000
local REPLICAS, INFO = KEYS[1], KEYS[2]

local found = redis.call('ZRANGEBYSCORE', REPLICAS, whole(NOW - FORGET), whole(NOW + FORGET),
  'WITHSCORES')
local parts = {}
for i = 1, #found, 1000 do
  local ids = {}
  for n = i, math.min(i + 999, #found), 2 do ids[#ids + 1] = found[n] end
  for n, info in ipairs(redis.call('HMGET', INFO, unpack(ids))) do
    if info then
      local silent = math.max(NOW - number(found[i + 2 * n - 1]), 0)
      parts[#parts + 1] = string.format('[%s,%.0f,%s]', cjson.encode(ids[n]), silent,
        cjson.encode(info))
    end
  end
end
return head() .. ',"replicas":[' .. table.concat(parts, ',') .. ']}'
