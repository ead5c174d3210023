-- Writes a part of a snapshot's draft, which disappears unless it is finished. KEYS: draft. ARGV: the part's name, what is in
-- it, the draft's life in s.
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
