-- KEYS: the group, its index, who has seen what; then the record and the override of each circuit.
-- The request: who sends it, the number of the batch, the cursor, what was seen; of each circuit
-- its name and perhaps a report.
--
-- The keys of circuits that only the index knows are made here. They have the group's hash tag, so
-- they are in its slot.

local MOST_VIEWS, MOST_STARTS, SWEEP = 256, 1000, 60000
local TAG = string.match(META, '^{.-}')
local START = 's:' .. REQUEST.id

read_group(START)
if group.newer then
  return refuse('newer')
end

-- Forgets starts that are gone: each start of a process is another one. Where more are alive than a
-- group can bear, the quarter that has been silent for longest goes as well.
local function sweep()
  local all, gone, live = redis.call('HGETALL', META), {}, {}
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 's:' then
      local start = numbers(all[i + 1])
      local silent = start and NOW - (start[3] or 0)
      if not silent or silent > FORGET then
        gone[#gone + 1] = all[i]
      else
        live[#live + 1] = { field = all[i], silent = silent }
      end
    end
  end
  if #live >= MOST_STARTS then
    table.sort(live, function(a, b) return a.silent > b.silent end)
    for i = 1, math.floor(#live / 4) do gone[#gone + 1] = live[i].field end
  end
  remove(META, gone)
  for _, field in ipairs(gone) do redis.call('ZREM', SEEN, string.sub(field, 3)) end
  redis.call('HSET', META, 'sweep', whole(NOW + SWEEP))
end

local start = numbers(group.start) or {}
local seq, seen = start[1] or 0, start[2] or 0
local has_reports = false
for _, item in ipairs(REQUEST.circuits) do has_reports = has_reports or item[2] ~= nil end
local fresh = REQUEST.seq > seq
local saw = math.min(REQUEST.seen, group.version)
if REQUEST.epoch ~= group.epoch then saw = 0 end
if fresh and has_reports or saw > seen then
  if not group.start and (NOW >= group.sweep or redis.call('HLEN', META) > MOST_STARTS) then
    sweep()
  end
  -- Before anything is added: what is denied has then counted nothing, and what fails later is not
  -- counted twice.
  seq = fresh and has_reports and REQUEST.seq or seq
  redis.call('HSET', META, START, cmsgpack.pack({ seq, math.max(seen, saw), NOW }))
  if saw > seen then redis.call('ZADD', SEEN, whole(saw), REQUEST.id) end
end

-- Whether the batch answers this roll call, as the first of its start.
local function answers(roll)
  return roll > seen and roll <= saw
end

local views, answered = {}, {}

local function view_of(name, key, held, r)
  local window = r and r.window
  window = window and 'w:' .. whole(window[1]) .. 'x' .. whole(window[3])
  local c = find(name, key, held, window, r and r.shares and 'r:' .. REQUEST.name)
  if c.newer then return '{"error":"newer"}' end
  mend(c)
  return view(c, r and report(c, r, fresh, answers))
end

-- Answers for one circuit. Whatever its keys hold, it must not fail the others.
local function take(name, key, held, r)
  local ok, json = pcall(view_of, name, key, held, r)
  if not ok then
    local err = type(json) == 'table' and json.err or tostring(json)
    json = '{"error":' .. cjson.encode(err) .. '}'
  end
  views[#views + 1] = '[' .. cjson.encode(name) .. ',' .. json .. ']'
end

for i, item in ipairs(REQUEST.circuits) do
  answered[item[1]] = true
  take(item[1], KEYS[2 + 2 * i], KEYS[3 + 2 * i], item[2])
end

local since = REQUEST.since
local restarted = since == 0 or REQUEST.epoch ~= group.epoch or since < group.floor
  or since > group.version
if restarted then since = 0 end
local most = MOST_VIEWS
if restarted and group.floor > 0 then
  -- A page that ends below the floor would begin again with the next one, for ever.
  most = math.max(most, redis.call('ZCOUNT', INDEX, '-inf', whole(group.floor)))
end
local found = redis.call('ZRANGEBYSCORE', INDEX, '(' .. whole(since), '+inf', 'WITHSCORES', 'LIMIT',
  0, most + 1)
local more = #found > 2 * most
-- What has vanished may have been the last change before the next page.
local version = more and math.max(number(found[2 * most]), group.floor) or group.version
for i = 1, math.min(#found, 2 * most), 2 do
  local name = found[i]
  if not answered[name] then
    take(name, TAG .. ':c:' .. name, TAG .. ':o:' .. name)
  end
end

-- A circuit of which nothing is left stays in the index until it is found here. Replicas that have
-- not read that it is gone begin anew.
local card = redis.call('ZCARD', INDEX)
if card > 0 then
  local first = NOW_US % card
  local some = redis.call('ZRANGE', INDEX, whole(first), whole(first + 1), 'WITHSCORES')
  for i = 1, #some, 2 do
    local name = some[i]
    if redis.call('EXISTS', TAG .. ':c:' .. name, TAG .. ':o:' .. name) == 0 then
      redis.call('ZREM', INDEX, name)
      group.floor = math.max(group.floor, number(some[i + 1]))
      redis.call('HSET', META, 'floor', whole(group.floor))
    end
  end
end

return head() .. string.format(',"epoch":%.0f,"version":%.0f,"restarted":%s,"more":%s,"views":[',
  group.epoch, version, tostring(restarted), tostring(more)) .. table.concat(views, ',') .. ']}'
