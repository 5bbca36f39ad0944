-- Tries, on a key that no circuit has, each command that the verbs run. Returns what each that failed
-- answered.

local failed = {}

local function try(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    failed[#failed + 1] = string.lower((...)) .. '\t' .. reply.err
  end
end

try('TIME')
for _, key in ipairs(KEYS) do
  try('HSET', key, 'a', '1')
  try('HGET', key, 'a')
  try('HMGET', key, 'a')
  try('HGETALL', key)
  try('HLEN', key)
  try('HDEL', key, 'b')
  try('PEXPIRE', key, '1')
  try('DEL', key)
end
-- No name: nobody takes it for a circuit's view.
try('PUBLISH', ARGV[1], '{}')
return failed
