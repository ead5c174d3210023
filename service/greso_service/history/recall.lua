-- The record of an idempotency key, with a write for WAIT to count, as in append.lua. KEYS: once, head.
local record = redis.call('GET', KEYS[1])
local active = redis.call('HGET', KEYS[2], 'active')
if record and active then redis.call('HSET', KEYS[2], 'active', active) end
return record
