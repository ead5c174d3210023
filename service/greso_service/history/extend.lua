-- Adds events to the draft of a history, which disappears unless it is finished. KEYS: draft. ARGV: its life in s, then an
-- id and a payload for each event. One that is there already was added by an earlier try whose reply was lost.
for i = 2, #ARGV, 2 do
  if #redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i]) == 0 then
    redis.call('XADD', KEYS[1], ARGV[i], 'e', ARGV[i + 1])
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
