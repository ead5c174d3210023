-- From where to where a log goes. KEYS: log, head. Returns its base's mark ('0-0' for a whole one) and its last mark, false
-- if there is no such run. The entry of the base's own mark is what a trimmed log begins with.
local mark = redis.call('HGET', KEYS[2], 'mark')
if not mark then return false end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if not first or string.match(first[1], '^1%-') then return {'0-0', mark} end
return {first[1], mark}
