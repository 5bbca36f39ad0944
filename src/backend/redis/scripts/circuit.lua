-- A circuit: its record, its override, and the view of both.

local TERMS = { 'interval', 'reopenings', 'probes', 'lease', 'successes' }
local TALLY = { 'calls', 'failures', 'slow', 'consecutive' }
-- How far back consecutive failures go where there is no window.
local HORIZON = 60000
-- While rolls are younger, answers to them are counted.
local ROLL_COUNTS = 2000000
-- The most bytes of the text of a failure. A longer one was edited.
local MOST_ERROR = 256

local SEEN = KEYS[3]

-- Without a probe slot, or with one for no time, no replica could ever probe.
local function usable(terms)
  if terms.probes == 0 then terms.probes = 1 end
  if terms.lease == 0 then terms.lease = 10000 end
end

local function list(values, names)
  local parts = {}
  for i, name in ipairs(names) do parts[i] = whole(values[name] or 0) end
  return '[' .. table.concat(parts, ',') .. ']'
end

local function texts(values)
  local parts = {}
  for i, value in ipairs(values) do parts[i] = cjson.encode(value) end
  return '[' .. table.concat(parts, ',') .. ']'
end

-- A streak is when the last success was, then of each moment with failures, oldest first, when
-- that was and how many there were, in microseconds. Nothing in it is in the future, or too old.
-- Mostly it is so already.
local function current(streak, horizon)
  local n = streak and #streak or 0
  if n % 2 == 0 or type(streak[1]) ~= 'number' then
    return { 0 }
  end
  local last = math.min(streak[1], NOW_US)
  local oldest = math.max(last, NOW_US - horizon * 1000)
  if streak[1] == last and (n == 1 or streak[2] > oldest and streak[n - 1] <= NOW_US) then
    return streak
  end
  local kept, count = { last }, 1
  for i = 2, n, 2 do
    if streak[i] > oldest then
      kept[count + 1], kept[count + 2] = math.min(streak[i], NOW_US), streak[i + 1]
      count = count + 2
    end
  end
  return kept
end

local function consecutive(streak, up_to)
  local sum = 0
  for i = 2, #streak, 2 do
    if streak[i] > up_to then break end
    sum = sum + streak[i + 1]
  end
  return bounded(sum)
end

-- Reads a circuit, and of its fields one window and one replica besides, if they are named.
local function find(name, key, held, window, replica)
  local v = redis.call('HMGET', key, 'schema', 'generation', 'revision', 'until', 'horizon', 'roll',
    'roll_at', 'state', 'reason', 'streak', 'votes', 'senders', window or '-', replica or '-',
    'whole')
  local o = redis.call('HMGET', held, 'schema', 'version', 'until', 'state', 'reason', 'actor')
  local c = {
    name = name,
    key = key,
    held = held,
    ring = unpacked(v[13]),
    replica = v[14],
    generation = number(v[2]),
    revision = number(v[3]),
    ['until'] = number(v[4]),
    horizon = number(v[5]),
    roll = number(v[6]),
    roll_at = math.min(number(v[7]), NOW_US),
    whole = math.min(number(v[15]), NOW_US),
    state = v[8],
    reason = v[9] or nil,
    votes = v[11],
    senders = v[12],
  }
  c.newer = number(v[1]) > SCHEMA or number(o[1]) > SCHEMA
  c.override = {
    version = number(o[2]),
    ['until'] = number(o[3]),
    state = o[4] or nil,
    reason = o[5] or nil,
    actor = o[6] or nil,
  }
  c.absent = c.generation == 0
  if c.absent then
    c.generation, c.revision, c.roll = 1, 0, 0
  end
  if c.absent or c.state ~= 'open' and c.state ~= 'half_open' then
    c.state = 'closed'
    c.streak = current(unpacked(v[10]), c.horizon > 0 and c.horizon or HORIZON)
    return c
  end
  c.roll, c.streak = 0, { 0 }
  local t = redis.call('HMGET', key, 'interval', 'reopenings', 'probes', 'lease', 'successes',
    'calls', 'failures', 'slow', 'consecutive', 'passed', 'contributors', 'last_error')
  for i, field in ipairs(TERMS) do c[field] = number(t[i]) end
  for i, field in ipairs(TALLY) do c[field] = number(t[5 + i]) end
  c.passed = number(t[10])
  c.contributors = {}
  for _, name in ipairs(unpacked(t[11]) or {}) do
    if type(name) == 'string' and #c.contributors < 8 then table.insert(c.contributors, name) end
  end
  if t[12] and #t[12] <= MOST_ERROR then c.last_error = t[12] end
  usable(c)
  -- The clock went back.
  if c.state == 'open' and c['until'] - NOW > c.interval then
    c['until'], c.mend = NOW + c.interval, true
  end
  return c
end

-- The record of a clock that went back; for verbs that read.
local function mend(c)
  if c.mend then
    redis.call('HSET', c.key, 'until', whole(c['until']))
    c.mend = nil
  end
end

-- Nonce and expiry of the leases that are out, the fields of those that are over, how many are out,
-- and the next expiry.
local function leases(c)
  local out, over, count, next_expiry = {}, {}, 0, nil
  local all = redis.call('HGETALL', c.key)
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 'l:' then
      local expires = number(all[i + 1])
      if expires > NOW + c.lease then
        expires = NOW + c.lease
        redis.call('HSET', c.key, all[i], whole(expires))
      end
      if expires > NOW then
        out[string.sub(all[i], 3)] = expires
        count = count + 1
        next_expiry = math.min(expires, next_expiry or expires)
      else
        over[#over + 1] = all[i]
      end
    end
  end
  return out, over, count, next_expiry
end

-- In parts: Lua's stack holds some thousands.
local function remove(key, fields)
  for i = 1, #fields, 500 do
    redis.call('HDEL', key, unpack(fields, i, math.min(i + 499, #fields)))
  end
end

local function votes(c)
  local live, count = {}, 0
  if c.votes then
    for name, till in pairs(moments(c.votes)) do
      if till > NOW then
        live[name] = math.min(till, NOW + HOUR)
        count = count + 1
      end
    end
  end
  return live, count
end

local function override_json(o)
  local json = '{"version":' .. whole(o.version)
  local ends = o['until'] > 0
  if o.state and not (ends and o['until'] <= NOW) then
    json = json .. ',"state":' .. cjson.encode(o.state)
    json = json .. ',"reason":' .. cjson.encode(o.reason or '')
    if o.actor then json = json .. ',"actor":' .. cjson.encode(o.actor) end
    if ends then json = json .. ',"remaining":' .. whole(o['until'] - NOW) end
  end
  return json .. '}'
end

-- The view. `shown` has the totals in a report's window, and shares.
local function view(c, shown)
  local counts = shown and shown.counts or c
  local json = string.format(
    '{"generation":%.0f,"revision":%.0f,"state":"%s","tally":[%.0f,%.0f,%.0f,%.0f]',
    c.generation, c.revision, c.state, bounded(counts.calls or 0), bounded(counts.failures or 0),
    bounded(counts.slow or 0),
    bounded(counts.consecutive or c.state == 'closed' and consecutive(c.streak, NOW_US) or 0))
  if c.reason then json = json .. ',"reason":' .. cjson.encode(c.reason) end
  if c.votes then
    local _, count = votes(c)
    if count > 0 then json = json .. ',"votes":' .. whole(count) end
  end
  if c.roll > 0 then
    local young = NOW_US - c.roll_at < ROLL_COUNTS
    local answered = young and redis.call('ZCOUNT', SEEN, whole(c.roll), '+inf') or 0
    json = json .. string.format(',"suspect":[%.0f,%.0f,%.0f,%.0f]', c.roll,
      (NOW_US - c.roll_at) / 1000, answered, consecutive(c.streak, math.max(c.whole, c.roll_at)))
  end
  if shown and shown.shares and #shown.shares > 0 then
    json = json .. ',"shares":[' .. table.concat(shown.shares, ',') .. ']'
  end
  if c.state ~= 'closed' then
    json = json .. ',"terms":' .. list(c, TERMS)
    if #c.contributors > 0 then json = json .. ',"contributors":' .. texts(c.contributors) end
    if c.last_error then json = json .. ',"last_error":' .. cjson.encode(c.last_error) end
  end
  if c.state == 'open' then
    json = json .. ',"remaining":' .. whole(math.max(c['until'] - NOW, 0))
  elseif c.state == 'half_open' then
    local _, _, out, next_expiry = leases(c)
    json = json .. ',"passed":' .. whole(c.passed) .. ',"out":' .. whole(out)
    if next_expiry then json = json .. ',"next_expiry":' .. whole(next_expiry - NOW) end
  end
  if c.override.version > 0 then json = json .. ',"overridden":' .. override_json(c.override) end
  return json .. '}'
end
