-- Appends events to a run's log if it ends where the caller believes, and keeps an idempotency key with them.
-- KEYS: log, head, once, onces. ARGV: expected mark, time in ms, once's name or '', its record, its life in s, of a
-- rewind the base that the run must have, else '', then an id and a payload for each event.
-- A write where there is nothing to write: WAIT counts the replicas that have it, and so all that came before it. These
-- two need no memory, unlike writes of values: a full server says again what it has said.
local function touch()
  redis.call('PEXPIRE', KEYS[2], 3600000)
  redis.call('PERSIST', KEYS[2])
end

-- Redis does not undo what a script did before it failed: what it writes to is looked at first.
local named, length = ARGV[3] ~= '', redis.call('XLEN', KEYS[1])
if named then redis.call('ZCARD', KEYS[4]) end
if named then
  local first = redis.call('GET', KEYS[3])
  if first then
    touch()
    return {'seen', first}
  end
end
local mark = redis.call('HGET', KEYS[2], 'mark') or '0-0'
local last = ARGV[#ARGV - 1]
-- The reply to an earlier try was lost: ids are chained checksums, so the same id means the same events.
if mark == last then
  touch()
  return {'appended'}
end
if mark ~= ARGV[1] then
  if mark ~= '0-0' then touch() end  -- the caller may find its own events among the newer ones
  return {'moved'}
end
if (mark == '0-0') ~= (length == 0) then
  return redis.error_reply('UNREADABLE it has ' .. length .. ' entries, and head says ' .. mark)
end
if ARGV[6] ~= '' then
  local first, base = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1], '0-0'
  if first and not string.match(first[1], '^1%-') then base = first[1] end
  if base ~= ARGV[6] then
    touch()
    return {'moved'}
  end
end
for i = 7, #ARGV, 2 do
  redis.call('XADD', KEYS[1], ARGV[i], 'e', ARGV[i + 1])
end
redis.call('HSET', KEYS[2], 'mark', last, 'active', ARGV[2])
if ARGV[6] ~= '' then redis.call('HSET', KEYS[2], 'rewound', last) end  -- trim.lua goes by it
if named then
  local now = tonumber(redis.call('TIME')[1])  -- the clock by which the record expires, not the caller's
  redis.call('SET', KEYS[3], ARGV[4], 'EX', ARGV[5])
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
  redis.call('ZADD', KEYS[4], now + ARGV[5] + 1, ARGV[3])
end
return {'appended'}
