-- Returns facts and body of frames with an open message behind a position. ARGV: mailbox, position, most bytes.
local found, left, after = {}, tonumber(ARGV[3]), '(' .. ARGV[2]
repeat
  local some = redis.call('ZRANGEBYSCORE', base .. 'open:' .. ARGV[1], after, '+inf', 'WITHSCORES', 'LIMIT', 0, 64)
  for at = 1, #some, 2 do
    local frame = facts(some[at])
    left = left - tonumber(frame[7])
    if #found > 0 and left < 0 then return found end
    frame[#frame + 1] = redis.call('GET', base .. 'body:' .. some[at])
    found[#found + 1] = frame
    after = '(' .. some[at + 1]
  end
until #some < 128
return found
