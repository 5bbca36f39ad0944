-- How records and overrides are written.

-- With what remains of a lease, if one was granted.
local function answer(lease)
  -- A history that cannot be written must not fail what has been written.
  pcall(note)
  local granted = lease and ',"lease":' .. whole(lease) or ''
  return head() .. granted .. ',"view":' .. view(c) .. '}'
end

local function keep(millis)
  redis.call('PEXPIRE', RECORD, whole(math.min(millis, MOST)))
end

-- Puts these fields in the place of what was there. A user who may not write must not have deleted:
-- where there is something to lose, it is tried first, with what it holds already.
local function put(key, is_there, fields)
  if is_there then redis.call('HSET', key, 'schema', whole(SCHEMA)) end
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(fields))
end

local NUMBERS = {
  'generation', 'revision', 'until', 'horizon', 'interval', 'reopenings', 'probes', 'lease',
  'successes', 'calls', 'failures', 'slow', 'consecutive',
}

-- Puts a record in the place of whatever was there.
local function replace(new)
  local fields = { 'schema', whole(SCHEMA), 'state', new.state }
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if new.state ~= 'closed' then usable(new) end
  for _, name in ipairs(NUMBERS) do
    if new[name] and new[name] ~= 0 then add(name, whole(math.min(new[name], MOST))) end
  end
  if new.reason then add('reason', new.reason) end
  new.contributors = new.contributors or {}
  if #new.contributors > 0 then add('contributors', cmsgpack.pack(new.contributors)) end
  if new.last_error then add('last_error', new.last_error) end
  put(RECORD, not c.absent, fields)
  new.name, new.key, new.override, new.roll, new.streak = c.name, RECORD, c.override, 0, { 0 }
  new.passed, new['until'], new.horizon = 0, new['until'] or 0, new.horizon or 0
  c = new
  local rest = math.max(c['until'] - NOW, 0)
  keep(c.state == 'closed' and math.max(rest, c.horizon, HORIZON) or rest + HOUR)
end

local function take(values, names, into)
  into = into or {}
  for i, name in ipairs(names) do into[name] = values and values[i] or 0 end
  return into
end

-- The replicas that have reported failures lately, newest first.
local function contributors()
  if c.state ~= 'closed' then return c.contributors end
  local names, senders = {}, unpacked(c.senders) or {}
  local oldest = NOW - math.max(c.horizon, HORIZON)
  for i = 1, #senders - 1, 2 do
    if type(senders[i]) == 'string' and number(senders[i + 1]) > oldest then
      names[#names + 1] = senders[i]
    end
  end
  return names
end

-- The one way into another generation.
local function enter(state, reason, new)
  new.generation = math.min(math.max(c.generation + 1, NOW), MOST)
  new.revision, new.state, new.reason, new.horizon = 1, state, reason, c.horizon
  if state ~= 'closed' then
    new.contributors = contributors()
  elseif c['until'] > NOW then
    -- It does not expire before the interval that it ends would have.
    new['until'] = c['until']
  end
  replace(new)
end

local function open(terms, reason, tally)
  local new = take(tally, TALLY, take(terms, TERMS))
  new.last_error = REQUEST.last_error
  new['until'] = NOW + new.interval
  enter('open', reason, new)
end

-- Writes an override, or that there is none. A version outlives what it was for by a day, so that
-- no replica writes back an older one.
local function override(version, to)
  local is_there = c.override.version > 0
  c.override = { version = math.min(version, MOST), ['until'] = 0 }
  local fields = { 'schema', whole(SCHEMA), 'version', whole(c.override.version) }
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if to then
    c.override.state, c.override.reason, c.override.actor = to.state, to.reason, to.actor
    add('state', to.state)
    add('reason', to.reason)
    if to.actor then add('actor', to.actor) end
    if to.remaining then
      c.override['until'] = math.min(NOW + to.remaining, MOST)
      add('until', whole(c.override['until']))
    end
  end
  put(HELD, is_there, fields)
  if not to or to.remaining then
    redis.call('PEXPIRE', HELD, whole((to and to.remaining or 0) + DAY))
  end
end
