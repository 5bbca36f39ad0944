-- Generation; nonce.

local nonce = ARGV[5]

if record.state == 'half_open' then
  local expires = leases()[nonce]
  if expires then
    return answer(view(), expires - NOW)
  end
end
if record.generation ~= tonumber(ARGV[4]) or record.state == 'closed' then
  return answer(view())
end

local moved = false
if record.state == 'open' then
  if record['until'] > NOW then
    return answer(view())
  end
  enter('half_open', 'interval_over', pick(record, OPENING))
  moved = true
end

local out, over = leases()
if #over > 0 then
  redis.call('HDEL', RECORD, unpack(over))
end
local lease
if count(out) < record.probes then
  record.revision = record.revision + 1
  redis.call('HSET', RECORD, 'revision', whole(record.revision),
    'l:' .. nonce, whole(NOW + record.lease))
  keep(record.lease)
  lease = record.lease
end
if moved then
  return tell(lease)
end
return answer(view(), lease)
