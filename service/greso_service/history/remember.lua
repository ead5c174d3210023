-- Keeps an idempotency key of a run, unless the run is gone or the key in use. KEYS: head, once, onces.
-- ARGV: the key's name, its record, its life in s.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('ZCARD', KEYS[3])  -- fails here, not behind the first write, if it is of another type
if not redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3], 'NX') then return 0 end
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[3], now + ARGV[3] + 1, ARGV[1])
return 1
