-- The mark of an event, false if the log has none of this number. KEYS: log. ARGV: the number.
local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1], 'COUNT', 1)[1]
return entry and entry[1]
