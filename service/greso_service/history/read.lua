-- Reads events behind a mark. KEYS: log, head. ARGV: mark, events at most, bytes after which to stop (one event at
-- least, so that an answer stays well inside a time-out). Returns the payloads, false when the log lacks the mark.
if redis.call('HGET', KEYS[2], 'mark') == ARGV[1] then return {} end  -- a draft has no head
if ARGV[1] ~= '0-0' then
  if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return false end
else
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  if first and not string.match(first[1], '^1%-') then return false end  -- trimmed
end
local limit, most, size, payloads, from = tonumber(ARGV[2]), tonumber(ARGV[3]), 0, {}, ARGV[1]
while #payloads < limit and size < most do
  local entries = redis.call('XRANGE', KEYS[1], '(' .. from, '+', 'COUNT', 16)
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    if #payloads == limit or size >= most then break end
    payloads[#payloads + 1] = entry[2][2]
    size = size + #entry[2][2]
    from = entry[1]
  end
end
return payloads
