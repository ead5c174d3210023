-- Reads events behind a mark. KEYS: log, head. ARGV: mark, how many. Returns false when the log lacks the mark.
if (redis.call('HGET', KEYS[2], 'mark') or '0-0') == ARGV[1] then return {} end
if ARGV[1] ~= '0-0' and #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return false end
return redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
