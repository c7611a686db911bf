-- Makes the next copies of a publication. ARGV: number, how many are made already, bounds of a mailbox (messages, bytes), newest id,
-- spans of a copy that finds no room, when that ends, mailbox...
-- Returns {first position, 1 if it found no room} of each; nothing if others made copies meanwhile.
local number, made = ARGV[1], tonumber(ARGV[2])
local publication = base .. 'publication:' .. number
if tonumber(redis.call('HGET', publication, 'made') or -1) ~= made then return false end
local told = redis.call('HMGET', publication, 'sender', 'type', 'ids', 'expire', 'accept', 'count')
local frame, list, copies = redis.call('GET', base .. 'said:' .. number) or '', split(told[3]), {}
for at = 8, #ARGV do
  local new = {
    mailbox = ARGV[at], sender = told[1], type = told[2], ids = told[3], newest = ARGV[5], expire = told[4], frame = frame,
    accept = told[5], spans = '',
  }
  local room = has_room(new.mailbox, #list, #frame, ARGV[3], ARGV[4])
  if not room then new.spans = ARGV[6] end
  local copy, first, last = put(new)
  remember(list, tokens_of(list), 'c' .. copy)
  if room then open(copy, new, last) else finish(copy, #list, #frame, ARGV[7], false) end
  copies[#copies + 1] = {first, room and 0 or 1}
end
made = made + #copies
redis.call('HSET', publication, 'made', made)
if made == tonumber(told[6]) then
  redis.call('DEL', base .. 'said:' .. number)
  redis.call('ZREM', base .. 'unfinished', number)
  redis.call('ZADD', base .. 'published', math.max(tonumber(told[4]), tonumber(told[5])), number)
end
return copies
