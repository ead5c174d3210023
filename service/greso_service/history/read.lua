-- Reads events behind a mark. KEYS: log, and head unless the log is a draft. ARGV: mark, events at most, bytes after which
-- to stop (one event at least, so that an answer stays well inside a time-out). Returns the id and the payload of each,
-- false when the log lacks the mark.
local mark = KEYS[2] and redis.call('HGET', KEYS[2], 'mark')
if mark == ARGV[1] then return {} end
if ARGV[1] ~= '0-0' then
  if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return false end
else
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  if first and not string.match(first[1], '^1%-') then return false end  -- trimmed
end
local limit, most, size, events, from = tonumber(ARGV[2]), tonumber(ARGV[3]), 0, {}, ARGV[1]
while #events < 2 * limit and size < most do
  local entries = redis.call('XRANGE', KEYS[1], '(' .. from, '+', 'COUNT', 16)
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    if #events == 2 * limit or size >= most then break end
    local fields = entry[2]
    if #fields ~= 2 or fields[1] ~= 'e' then
      return redis.error_reply('UNREADABLE its entry ' .. entry[1] .. ' has other fields than e')
    end
    events[#events + 1] = entry[1]
    events[#events + 1] = fields[2]
    size = size + #fields[2]
    from = entry[1]
  end
end
if #events == 0 and KEYS[2] and (mark or ARGV[1] ~= '0-0') then
  return redis.error_reply('UNREADABLE it ends at ' .. ARGV[1] .. ', and head says ' .. (mark or 'nothing'))
end
return events
