-- Returns bounced messages whose senders are to be told, oldest first: time, position, facts, id. ARGV: how many at most.
local found = {}
local members = redis.call('ZRANGE', base .. 'owed', 0, tonumber(ARGV[1]) - 1, 'WITHSCORES')
for at = 1, #members, 2 do
  local frame = facts(redis.call('HGET', base .. 'owed_frames', members[at]))
  local position = tonumber(string.sub(members[at], -16))
  local index = position - tonumber(frame[5])
  frame[#frame + 1] = redis.call('GETRANGE', base .. 'body:' .. frame[1], 16 * index, 16 * index + 15)
  frame[#frame + 1] = position
  frame[#frame + 1] = members[at + 1]
  found[#found + 1] = frame
end
return found
