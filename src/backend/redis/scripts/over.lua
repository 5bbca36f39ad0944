-- The end of an override whose time is over. Nothing runs at that moment, and a timer would cost
-- every circuit: so who reads the history adds this entry, and who replaces the override writes it.

local HISTORY = KEYS[6]

-- Returns when it was, and the entry; nothing if no override has ended by itself.
local function ended(c)
  local o = c.override
  local at = o['until']
  if not o.state or at == 0 or at > NOW then return nil end
  local to = c.state
  if c.generation > at then
    -- The record has moved on since: what came next tells where it was.
    local after = redis.call('ZRANGEBYSCORE', HISTORY, '(' .. whole(at), '+inf', 'LIMIT', 0, 1)[1]
    local ok, entry = pcall(cjson.decode, after or '')
    if ok and type(entry) == 'table' and type(entry.from) == 'string' then to = entry.from end
  end
  local json = '{"generation":' .. whole(o.version) .. ',"from":' .. cjson.encode(o.state)
    .. ',"to":' .. cjson.encode(to) .. ',"reason":"override_over","override":{"version":'
    .. whole(o.version) .. ',"state":' .. cjson.encode(o.state) .. ',"reason":'
    .. cjson.encode(o.reason or '')
  if o.actor then json = json .. ',"actor":' .. cjson.encode(o.actor) end
  return at, json .. ',"remaining":0}}'
end
