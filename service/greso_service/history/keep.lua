-- Puts a finished snapshot in its place, unless the run was dropped meanwhile. KEYS: head, draft, snap. ARGV: mark.
if redis.call('EXISTS', KEYS[1]) == 0 then return redis.call('DEL', KEYS[2]) end
-- Without its first part it has expired, or an earlier try put it there and the reply to that was lost.
if redis.call('HEXISTS', KEYS[2], ARGV[1] .. ':0') == 0 then return 0 end
redis.call('HSET', KEYS[2], 'mark', ARGV[1])
redis.call('PERSIST', KEYS[2])
redis.call('RENAME', KEYS[2], KEYS[3])
return 1
