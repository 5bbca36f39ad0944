-- KEYS: as for a verb of one circuit. Returns the last transitions, each with its age.

local MOST_NOTED = 64

local found = redis.call('ZRANGE', KEYS[6], -MOST_NOTED, -1, 'WITHSCORES')
local parts = {}
local function add(at, json)
  if at > NOW - DAY then
    parts[#parts + 1] = '[' .. whole(NOW - at) .. ',' .. cjson.encode(json) .. ']'
  end
end

local over_at, over = ended(find(REQUEST.name, KEYS[4], KEYS[5]))
for i = 1, #found, 2 do
  local at = number(found[i + 1])
  if over and at > over_at then
    add(over_at, over)
    over = nil
  end
  add(at, found[i])
end
if over then add(over_at, over) end
if #parts > MOST_NOTED then table.remove(parts, 1) end
return head() .. ',"history":[' .. table.concat(parts, ',') .. ']}'
