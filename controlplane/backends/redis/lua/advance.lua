-- Lets a mailbox go on behind a position. ARGV: mailbox, position.
local box, wanted = base .. 'box:' .. ARGV[1], tonumber(ARGV[2]) + 1
if tonumber(redis.call('HGET', box, 'next') or 1) < wanted then redis.call('HSET', box, 'next', wanted) end
