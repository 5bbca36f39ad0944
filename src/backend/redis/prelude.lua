-- What all verbs share; put in front of each.
--
-- KEYS: the record, and what a hand has set. ARGV: the name, the channel, and the server's time in
-- milliseconds after which the caller has gone (0: it waits, or it does not matter); then what the
-- verb needs. Every answer bears the server's time, from which the caller learns to say "after".

local SCHEMA = 1
local HOUR = 3600000
local RECORD, HAND = KEYS[1], KEYS[2]
local NAME, CHANNEL, NOT_AFTER = ARGV[1], ARGV[2], tonumber(ARGV[3])

-- Read once: on Redis 7.0 it moves within a script.
local TIME = redis.call('TIME')
local NOW = TIME[1] * 1000 + math.floor(TIME[2] / 1000)

-- Concatenation keeps 14 digits of a number.
local function whole(n)
  return string.format('%.0f', n)
end

local NUMBERS = {
  'schema', 'generation', 'revision', 'until', 'interval', 'reopenings', 'probes', 'lease',
  'successes', 'passed', 'calls', 'failures', 'slow', 'streak', 'streaks', 'sweep',
}
local TEXTS = { 'state', 'reason', 'votes' }
local OPENING = { 'interval', 'reopenings', 'probes', 'lease', 'successes' }
local TALLY = { 'calls', 'failures', 'slow', 'streak' }

-- What is missing, or is no number that we would have written, is 0. Doubles count up to 2^53.
local function number(text)
  local n = tonumber(text or 0)
  return n and n >= 0 and n < 2 ^ 53 and math.floor(n) or 0
end

local function read(key, numbers, texts)
  local names = {}
  for _, name in ipairs(numbers) do names[#names + 1] = name end
  for _, name in ipairs(texts) do names[#names + 1] = name end
  local values, found = redis.call('HMGET', key, unpack(names)), {}
  for i, name in ipairs(names) do
    if i <= #numbers then
      found[name] = number(values[i])
    else
      found[name] = values[i] or nil
    end
  end
  return found
end

-- Without a place, or with one for no time, nobody would ever probe.
local function usable(opening)
  if opening.probes == 0 then opening.probes = 1 end
  if opening.lease == 0 then opening.lease = 10000 end
end

local record = read(RECORD, NUMBERS, TEXTS)
local hand = read(HAND, { 'schema', 'version', 'until' }, { 'state', 'reason', 'actor' })
local absent = record.generation == 0

local function refuse(why)
  return '{"now":' .. whole(NOW) .. ',"refused":"' .. why .. '"}'
end

if record.schema > SCHEMA or hand.schema > SCHEMA then
  return refuse('newer')
end
if NOT_AFTER > 0 and NOW > NOT_AFTER then
  return refuse('late')
end
if absent then
  record.generation = 1
end
if absent or record.state ~= 'open' and record.state ~= 'half_open' then
  record.state = 'closed'
end
usable(record)

-- Nonce and expiry of the leases that are out, and the nonces of those that are over.
local function leases()
  local out, over = {}, {}
  local all = redis.call('HGETALL', RECORD)
  for i = 1, #all, 2 do
    local nonce = string.match(all[i], '^l:(.*)$')
    if nonce then
      local expires = number(all[i + 1])
      if expires > NOW then
        out[nonce] = expires
      else
        over[#over + 1] = all[i]
      end
    end
  end
  return out, over
end

local function count(map)
  local n = 0
  for _ in pairs(map) do n = n + 1 end
  return n
end

local function live_votes()
  local live = {}
  if record.votes then
    for replica, till in pairs(cmsgpack.unpack(record.votes)) do
      if till > NOW then live[replica] = till end
    end
  end
  return live
end

local function list(values, names)
  local parts = {}
  for i, name in ipairs(names) do parts[i] = whole(values[name] or 0) end
  return '[' .. table.concat(parts, ',') .. ']'
end

-- The view. What a report has counted replaces the record's tally.
local function view(counted)
  local parts = {
    '"generation":' .. whole(record.generation),
    '"revision":' .. whole(record.revision),
    '"state":"' .. record.state .. '"',
    '"tally":' .. list(counted and counted.tally or record, TALLY),
    '"votes":' .. whole(count(live_votes())),
  }
  local function add(name, value)
    parts[#parts + 1] = '"' .. name .. '":' .. value
  end
  if record.reason then add('reason', cjson.encode(record.reason)) end
  if counted and #counted.shares > 0 then
    add('shares', '[' .. table.concat(counted.shares, ',') .. ']')
  end
  if record.state ~= 'closed' then add('opening', list(record, OPENING)) end
  if record.state == 'open' then add('remaining', whole(math.max(record['until'] - NOW, 0))) end
  if record.state == 'half_open' then
    local out, next_expiry = leases(), nil
    for _, expires in pairs(out) do next_expiry = math.min(expires, next_expiry or expires) end
    add('passed', whole(record.passed))
    add('out', whole(count(out)))
    if next_expiry then add('next_expiry', whole(next_expiry - NOW)) end
  end
  if hand.version > 0 then
    local set = '"version":' .. whole(hand.version)
    local ends = hand['until'] > 0
    if hand.state and not (ends and hand['until'] <= NOW) then
      set = set .. ',"state":' .. cjson.encode(hand.state)
      set = set .. ',"reason":' .. cjson.encode(hand.reason or '')
      if hand.actor then set = set .. ',"actor":' .. cjson.encode(hand.actor) end
      if ends then set = set .. ',"remaining":' .. whole(hand['until'] - NOW) end
    end
    add('overridden', '{' .. set .. '}')
  end
  return '{' .. table.concat(parts, ',') .. '}'
end

-- With what remains of a lease, if one was granted.
local function answer(shown, lease)
  local granted = lease and ',"lease":' .. whole(lease) or ''
  return '{"now":' .. whole(NOW) .. granted .. ',"view":' .. shown .. '}'
end

-- Answers, and tells everybody. A PUBLISH that is denied must not fail what has been written.
local function tell(lease)
  local shown = view()
  redis.pcall('PUBLISH', CHANNEL, '{"name":' .. cjson.encode(NAME) .. ',"view":' .. shown .. '}')
  return answer(shown, lease)
end

local function keep(millis)
  redis.call('PEXPIRE', RECORD, whole(millis + HOUR))
end

-- Puts these fields in the place of what was there. A user who may not write must not have deleted:
-- where there is something to lose, it is tried first, with what it holds already.
local function put(key, is_there, fields)
  if is_there then redis.call('HSET', key, 'schema', whole(SCHEMA)) end
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(fields))
end

-- Puts a record in the place of whatever was there.
local function replace(new)
  new.schema = SCHEMA
  local fields = {}
  for _, name in ipairs(NUMBERS) do
    if new[name] and new[name] ~= 0 then
      fields[#fields + 1] = name
      fields[#fields + 1] = whole(new[name])
    end
  end
  for _, name in ipairs(TEXTS) do
    if new[name] then
      fields[#fields + 1] = name
      fields[#fields + 1] = new[name]
    end
  end
  put(RECORD, not absent, fields)
  for _, name in ipairs(NUMBERS) do new[name] = new[name] or 0 end
  usable(new)
  record, absent = new, false
  keep(math.max(new['until'] - NOW, 0))
end

local function take(from, names, at)
  local into = {}
  for i, name in ipairs(names) do into[name] = tonumber(from[at + i - 1]) end
  return into
end

local function pick(from, names)
  local into = {}
  for _, name in ipairs(names) do into[name] = from[name] end
  return into
end

local function merge(into, more)
  for name, value in pairs(more) do into[name] = value end
  return into
end

-- The one way into another generation.
local function enter(state, reason, with)
  replace(merge({
    generation = math.max(record.generation + 1, NOW),
    revision = 1,
    state = state,
    reason = reason,
  }, with))
end

local function open(opening, reason, tally)
  enter('open', reason, merge(merge({ ['until'] = NOW + opening.interval }, opening), tally))
end

-- Writes what a hand has set: version, state (none: ''), reason, actor or none, how long or -1.
local function set_hand(version, state, reason, actor, remaining)
  local is_there = hand.version > 0
  hand = { schema = SCHEMA, version = version, ['until'] = 0 }
  local fields = { 'schema', whole(SCHEMA), 'version', whole(version) }
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if state ~= '' then
    hand.state, hand.reason = state, reason
    add('state', state)
    add('reason', reason)
    if actor then
      hand.actor = actor
      add('actor', actor)
    end
    if remaining >= 0 then
      hand['until'] = NOW + remaining
      add('until', whole(hand['until']))
    end
  end
  put(HAND, is_there, fields)
end
