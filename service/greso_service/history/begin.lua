-- Makes a finished draft the log of a new run, and keeps an idempotency key with it.
-- KEYS: log, head, once, onces, draft. ARGV: the draft's last mark, time in ms, once's name or '', its record, its life in s.
local named = ARGV[3] ~= ''
if named then
  local first = redis.call('GET', KEYS[3])
  if first then
    redis.call('DEL', KEYS[5])
    redis.call('HSET', KEYS[2], 'active', ARGV[2])  -- a write for WAIT to count, as in append.lua
    return {'seen', first}
  end
end
local mark = redis.call('HGET', KEYS[2], 'mark')
if mark then
  redis.call('DEL', KEYS[5])
  redis.call('HSET', KEYS[2], 'active', ARGV[2])
  if mark == ARGV[1] then return {'appended'} end  -- the reply to an earlier try was lost
  return {'moved'}
end
if redis.call('EXISTS', KEYS[5]) == 0 then return redis.error_reply('TRYAGAIN the draft has expired') end
redis.call('RENAME', KEYS[5], KEYS[1])
redis.call('PERSIST', KEYS[1])
redis.call('HSET', KEYS[2], 'mark', ARGV[1], 'active', ARGV[2])
if named then
  local now = tonumber(redis.call('TIME')[1])
  redis.call('SET', KEYS[3], ARGV[4], 'EX', ARGV[5])
  redis.call('ZADD', KEYS[4], now + ARGV[5] + 1, ARGV[3])
end
return {'appended'}
