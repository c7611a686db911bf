-- Moves messages on, if nobody did meanwhile. ARGV: a JSON list of changes: number, spans before, spans after, how many messages
-- ended, how many are open, place of the last open one in the frame, when the frame ended, whether it is settled, whether the ids are
-- wanted, [position, time] of what its sender is owed a word about.
-- Returns the ids of each frame where they are wanted; nothing if a frame was changed by others, and then nothing was changed.
local changes, found = cjson.decode(ARGV[1]), {}
for _, change in ipairs(changes) do
  if redis.call('HGET', base .. 'frame:' .. change[1], 'spans') ~= change[2] then return false end
end
for _, change in ipairs(changes) do
  local number, closed, left = change[1], change[4], change[5]
  local frame = base .. 'frame:' .. number
  local told = redis.call('HMGET', frame, 'mailbox', 'first', 'count', 'size')
  local mailbox, first, count, size = told[1], tonumber(told[2]), tonumber(told[3]), tonumber(told[4])
  redis.call('HSET', frame, 'spans', change[3])
  if closed > 0 then
    local box = base .. 'box:' .. mailbox
    redis.call('HINCRBY', box, 'messages', -closed)
    if left > 0 then
      redis.call('ZADD', base .. 'open:' .. mailbox, first + change[6], number)
    else
      redis.call('HINCRBY', box, 'bytes', -size)
      redis.call('ZREM', base .. 'open:' .. mailbox, number)
      redis.call('ZREM', base .. 'expiring', number)
      finish(number, count, size, change[7], change[8])
    end
  end
  found[#found + 1] = change[9] and ids_of(number, count) or ''
  for _, debt in ipairs(change[10]) do
    local member = string.format('%s\0%016.0f', mailbox, debt[1])
    redis.call('ZADD', base .. 'owed', debt[2], member)
    redis.call('HSET', base .. 'owed_frames', member, number)
  end
end
return found
