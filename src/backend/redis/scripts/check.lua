-- Tries, on a key that nothing uses, each command that the verbs run. Returns what each that failed
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
  try('DEL', key)
  try('SET', key, '1', 'PX', '1000')
  try('EXISTS', key)
  try('PEXPIRE', key, '1000')
  try('DEL', key)
  try('HSET', key, 'a', '1')
  try('HMGET', key, 'a')
  try('HGETALL', key)
  try('HLEN', key)
  try('HDEL', key, 'a')
  try('ZADD', key, '1', 'a')
  try('ZCARD', key)
  try('ZCOUNT', key, '0', '1')
  try('ZRANGE', key, '0', '0')
  try('ZRANGEBYSCORE', key, '0', '1')
  try('ZREM', key, 'a')
  try('DEL', key)
end
-- Without a name: no replica takes it for a notice.
for _, channel in ipairs(ARGV) do try('PUBLISH', channel, '{}') end
return failed
