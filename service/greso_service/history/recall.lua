-- The record of an idempotency key, with a write for WAIT to count, as in append.lua. KEYS: once, head.
local record = redis.call('GET', KEYS[1])
if record then
  redis.call('PEXPIRE', KEYS[2], 3600000)
  redis.call('PERSIST', KEYS[2])
end
return record
