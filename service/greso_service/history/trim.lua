-- Puts a finished snapshot in the place of the oldest events, all at once; else removes it.
-- KEYS: log, head, draft of the base, base, snap. ARGV: the base's mark, that of the base before it ('0-0': none), a mark
-- after which there must be no rewind, how many parts the snapshot has.
local function has(id) return #redis.call('XRANGE', KEYS[1], id, id) > 0 end
local function number(id) return tonumber(string.match(id, '%d+')) end

local first, before = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1], '0-0'
if first and number(first[1]) ~= 1 then before = first[1] end
local rewound = redis.call('HGET', KEYS[2], 'rewound')
local as_it_was = before == ARGV[2] and has(ARGV[1]) and has(ARGV[3])
  and not (rewound and number(rewound) > number(ARGV[3]))
if not as_it_was or redis.call('HLEN', KEYS[3]) ~= tonumber(ARGV[4]) then
  redis.call('DEL', KEYS[3])
  return 0
end
redis.call('HSET', KEYS[3], 'mark', ARGV[1])
redis.call('PERSIST', KEYS[3])
redis.call('RENAME', KEYS[3], KEYS[4])
redis.call('XTRIM', KEYS[1], 'MINID', ARGV[1])  -- its own entry stays: a log that begins with another number is trimmed
local snap = redis.call('HGET', KEYS[5], 'mark')
if snap and number(snap) < number(ARGV[1]) then redis.call('DEL', KEYS[5]) end
return 1
