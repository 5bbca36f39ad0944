-- KEYS: as for a heartbeat.

redis.call('SET', KEYS[3], '1', 'PX', 15000)
return head() .. '}'
