-- Makes a finished draft the log of a new run, and keeps an idempotency key with it.
-- KEYS: log, head, once, onces, draft, base, the base's draft. ARGV: the draft's last mark, time in ms, once's name or '',
-- its record, its life in s, how many entries the draft has, the base's mark or '', how many parts its snapshot has.
local named = ARGV[3] ~= ''
if named then
  local first = redis.call('GET', KEYS[3])
  if first then
    redis.call('DEL', KEYS[5], KEYS[7])
    redis.call('HSET', KEYS[2], 'active', ARGV[2])  -- a write for WAIT to count, as in append.lua
    return {'seen', first}
  end
end
local mark = redis.call('HGET', KEYS[2], 'mark')
if mark then
  redis.call('DEL', KEYS[5], KEYS[7])
  if mark ~= ARGV[1] then return {'moved'} end
  redis.call('HSET', KEYS[2], 'active', ARGV[2])
  return {'appended'}  -- the reply to an earlier try was lost
end
if redis.call('EXISTS', KEYS[1]) == 1 then return redis.error_reply('UNREADABLE it is there, and head is not') end
if named then redis.call('ZCARD', KEYS[4]) end  -- fails here, not behind the first write, if it is of another type
-- A draft that expired while it was written, or lost its newest events to a failover, is no history.
local last = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
local whole = last and last[1] == ARGV[1] and redis.call('XLEN', KEYS[5]) == tonumber(ARGV[6])
if not whole or redis.call('HLEN', KEYS[7]) ~= tonumber(ARGV[8]) then
  redis.call('DEL', KEYS[5], KEYS[7])
  return {'incomplete'}
end
redis.call('DEL', KEYS[6])
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[7], 'mark', ARGV[7])
  redis.call('PERSIST', KEYS[7])
  redis.call('RENAME', KEYS[7], KEYS[6])
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
