-- Removes a run at once. KEYS: onces, head, log, snap, base, then every idempotency record that the caller found in onces.
-- ARGV: the mark at which the history must end, '' for any.
-- Returns how many keys there were, -1 if a record has come since the caller looked.
if ARGV[1] ~= '' and redis.call('HGET', KEYS[2], 'mark') ~= ARGV[1] then return 0 end
if redis.call('ZCARD', KEYS[1]) ~= #KEYS - 5 then return -1 end
local removed = 0
for i = 1, #KEYS do
  removed = removed + redis.call('UNLINK', KEYS[i])
end
return removed
