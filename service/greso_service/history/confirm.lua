-- A write where there is nothing to write, for WAIT to count, as in append.lua. KEYS: head.
redis.call('PEXPIRE', KEYS[1], 3600000)
redis.call('PERSIST', KEYS[1])
