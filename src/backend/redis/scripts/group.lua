-- A group: its epoch, the versions of its changes, and the index of the circuits that have changed.

local META, INDEX = KEYS[1], KEYS[2]
local group

local function read_group(start)
  local v = redis.call('HMGET', META, 'schema', 'epoch', 'version', 'floor', 'sweep', start or '-')
  group = {
    newer = number(v[1]) > SCHEMA,
    epoch = number(v[2]),
    version = number(v[3]),
    floor = number(v[4]),
    sweep = number(v[5]),
    start = v[6],
  }
  if group.epoch == 0 and not group.newer then
    -- The index may be left of a group that was evicted in part.
    local last = redis.call('ZRANGE', INDEX, -1, -1, 'WITHSCORES')
    group.epoch = NOW_US
    -- Never 0, from where every cursor begins anew.
    group.version = math.max(group.version, number(last[2]), NOW)
    redis.call('HSET', META, 'schema', whole(SCHEMA), 'epoch', whole(group.epoch), 'version',
      whole(group.version))
  end
end

-- Gives a change of a circuit its version.
local function bump(c)
  local previous = group.version
  group.version = math.max(previous + 1, NOW)
  redis.call('ZADD', INDEX, whole(group.version), c.name)
  redis.call('HSET', META, 'version', whole(group.version))
  return previous
end

-- A PUBLISH that is denied must not fail what has been written.
local function publish(c, previous)
  local said = redis.pcall('PUBLISH', CHANNEL, string.format(
    '{"schema":%.0f,"name":%s,"previous":%.0f,"version":%.0f,"view":%s}',
    SCHEMA, cjson.encode(c.name), previous, group.version, view(c)))
  if type(said) == 'table' and said.err then
    UNPUBLISHED = said.err
  else
    PUBLISHED = true
  end
end

local function changed(c)
  publish(c, bump(c))
end
