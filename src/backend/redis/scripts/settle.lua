-- Generation; nonce; result; where the probe failed, the reason and the next terms.

local result = REQUEST.result

if c.state ~= 'half_open' or c.generation ~= REQUEST.generation then
  return answer()
end
if result == 'failed' then
  -- Also without its lease: what failed has failed.
  open(REQUEST.terms, REQUEST.reason)
elseif not leases(c)[REQUEST.nonce] then
  return answer()
elseif result == 'passed' and c.passed + 1 >= c.successes then
  enter('closed', 'probes_succeeded', {})
else
  -- In this order, what is denied loses no lease, and counts no result whose lease is left.
  c.revision = c.revision + 1
  redis.call('HSET', RECORD, 'revision', whole(c.revision))
  redis.call('HDEL', RECORD, 'l:' .. REQUEST.nonce)
  if result == 'passed' then
    c.passed = c.passed + 1
    redis.call('HSET', RECORD, 'passed', whole(c.passed))
  end
end
changed(c)
return answer()
