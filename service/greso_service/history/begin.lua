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
  if mark ~= ARGV[1] then return {'moved'} end
  redis.call('HSET', KEYS[2], 'active', ARGV[2])
  return {'appended'}  -- the reply to an earlier try was lost
end
if redis.call('EXISTS', KEYS[1]) == 1 then return redis.error_reply('UNREADABLE it is there, and head is not') end
if named then redis.call('ZCARD', KEYS[4]) end  -- fails here, not behind the first write, if it is of another type
-- A draft that expired while it was written, or lost its newest events to a failover, is no history.
local last = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
if not last or last[1] ~= ARGV[1] or redis.call('XLEN', KEYS[5]) ~= tonumber(string.match(ARGV[1], '%d+')) then
  redis.call('DEL', KEYS[5])
  return {'incomplete'}
end
redis.call('RENAME', KEYS[5], KEYS[1])
redis.call('PERSIST', KEYS[1])
redis.call('HSET', KEYS[2], 'mark', ARGV[1], 'active', ARGV[2])
if named then
  local now = tonumber(redis.call('TIME')[1])
  redis.call('SET', KEYS[3], ARGV[4], 'EX', ARGV[5])
  redis.call('ZADD', KEYS[4], now + ARGV[5] + 1, ARGV[3])
end
return {'appended'}
