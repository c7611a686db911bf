-- Returns the facts of frames with an open message. ARGV: mailbox, first and last position, for those between;
-- or '', time, for those that expire at or before it, at most so many.
local found = {}
if ARGV[1] == '' then
  for _, number in ipairs(redis.call('ZRANGEBYSCORE', base .. 'expiring', '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])) do
    found[#found + 1] = facts(number)
  end
  return found
end
for _, number in ipairs(redis.call('ZRANGEBYSCORE', base .. 'open:' .. ARGV[1], ARGV[2], '+inf')) do
  local frame = facts(number)
  if tonumber(frame[5]) > tonumber(ARGV[3]) then break end
  found[#found + 1] = frame
end
return found
