-- What has happened to the circuit: a sorted set of transitions, by the time when each was made.

local HISTORY, MOST_NOTED = KEYS[6], 64

local function in_force(o)
  return o.state and (o['until'] == 0 or o['until'] > NOW) and o or nil
end

local function now_is()
  return {
    generation = c.generation,
    state = c.state,
    version = c.override.version,
    override = in_force(c.override),
  }
end

local before = now_is()

local function noted(after)
  local moved = after.generation > before.generation
  local overridden = after.version > before.version and (after.override or before.override)
  if not moved and not overridden then return nil end
  local from, to = before.state, after.state
  if overridden then
    from = before.override and before.override.state or from
    to = after.override and after.override.state or to
  end
  local json = '{"generation":' .. whole(moved and after.generation or after.version)
    .. ',"from":' .. cjson.encode(from) .. ',"to":' .. cjson.encode(to)
    .. ',"reason":' .. cjson.encode(moved and (c.reason or 'no_record') or 'override')
  if moved and after.state == 'open' then
    json = json .. ',"open_for":' .. whole(c['until'] - NOW)
    if c.last_error then json = json .. ',"last_error":' .. cjson.encode(c.last_error) end
    if before.state == 'closed' then
      json = json .. ',"tally":' .. list(c, TALLY)
      if #c.contributors > 0 then json = json .. ',"contributors":' .. texts(c.contributors) end
    end
  end
  if overridden then json = json .. ',"override":' .. override_json(overridden) end
  return json .. '}'
end

-- Notes what the verb has changed, if that is a transition or an override.
local function note()
  local json = noted(now_is())
  if not json then return end
  local last = redis.call('ZRANGE', HISTORY, -1, -1, 'WITHSCORES')
  redis.call('ZADD', HISTORY, whole(math.max(number(last[2]) + 1, NOW)), json)
  -- Few at a time: the key may hold what another program has put there.
  local over = math.min(redis.call('ZCARD', HISTORY) - MOST_NOTED, 500)
  if over > 0 then
    redis.call('ZREM', HISTORY, unpack(redis.call('ZRANGE', HISTORY, 0, over - 1)))
  end
  redis.call('PEXPIRE', HISTORY, whole(DAY))
end
