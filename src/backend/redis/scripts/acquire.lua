-- Generation; nonce.

local nonce = REQUEST.nonce

mend(c)
if c.state == 'half_open' then
  local expires = leases(c)[nonce]
  if expires then
    return answer(expires - NOW)
  end
end
if c.generation ~= REQUEST.generation or c.state == 'closed' then
  return answer()
end

local moved = false
if c.state == 'open' then
  if c['until'] > NOW then
    return answer()
  end
  local new = {}
  for _, name in ipairs(TERMS) do new[name] = c[name] end
  for _, name in ipairs(TALLY) do new[name] = c[name] end
  new.last_error = c.last_error
  enter('half_open', 'interval_over', new)
  moved = true
end

local _, over, out = leases(c)
remove(RECORD, over)
local lease
if out < c.probes then
  c.revision = c.revision + 1
  lease = c.lease
  redis.call('HSET', RECORD, 'revision', whole(c.revision), 'l:' .. nonce, whole(NOW + lease))
  keep(lease + HOUR)
end
if moved then changed(c) end
return answer(lease)
