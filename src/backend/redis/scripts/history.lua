-- KEYS: as for a verb of one circuit. Returns the last transitions, each with its age.

local MOST_NOTED = 64

local found = redis.call('ZRANGE', KEYS[6], -MOST_NOTED, -1, 'WITHSCORES')
local parts = {}
for i = 1, #found, 2 do
  local at = number(found[i + 1])
  if at > NOW - DAY then
    parts[#parts + 1] = '[' .. whole(NOW - at) .. ',' .. cjson.encode(found[i]) .. ']'
  end
end
return head() .. ',"history":[' .. table.concat(parts, ',') .. ']}'
