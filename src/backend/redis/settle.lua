-- Generation; nonce; how it went; where it failed, the reason and the next opening.

local generation, nonce, result = tonumber(ARGV[4]), ARGV[5], ARGV[6]

if record.state ~= 'half_open' or record.generation ~= generation or not leases()[nonce] then
  return answer(view())
end
if result == 'failed' then
  open(take(ARGV, OPENING, 8), ARGV[7], {})
elseif result == 'passed' and record.passed + 1 >= record.successes then
  enter('closed', 'probes_succeeded', {})
else
  -- In this order, what is denied loses no lease, and counts no result whose lease is left.
  record.revision = record.revision + 1
  redis.call('HSET', RECORD, 'revision', whole(record.revision))
  redis.call('HDEL', RECORD, 'l:' .. nonce)
  if result == 'passed' then
    record.passed = record.passed + 1
    redis.call('HSET', RECORD, 'passed', whole(record.passed))
  end
end
return tell()
