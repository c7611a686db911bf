-- Shows one message of a frame no more and, with a frame to send it in again, puts that at the end of the mailbox.
-- ARGV: number, spans before, spans after, whether all are gone, whether nobody can ask what it said any more (1 or 0);
-- to send again: token of the frame, bounds of a mailbox (messages, bytes), id, expire, frame, spans.
-- Returns {word, first position}; nothing if others changed the frame meanwhile.
local number, frame = ARGV[1], base .. 'frame:' .. ARGV[1]
local told = redis.call('HMGET', frame, 'spans', 'mailbox', 'sender', 'type', 'accept', 'count', 'size', 'newest')
if told[1] ~= ARGV[2] then return false end
local first = 0
if ARGV[6] then
  local new = {
    mailbox = told[2], sender = told[3], type = told[4], ids = ARGV[9], newest = ARGV[9], expire = ARGV[10], frame = ARGV[11],
    accept = told[5], spans = ARGV[12],
  }
  if not has_room(new.mailbox, 1, #new.frame, ARGV[7], ARGV[8]) then return {'full', 0} end
  local again, _, last = put(new)
  open(again, new, last)
  first = last
  rename(new.ids, ARGV[6], (string.match(ARGV[6], '^c') or '') .. again)
end
redis.call('HSET', frame, 'spans', ARGV[3])
if ARGV[4] == '1' then hide(number, tonumber(told[6]), told[8]) end
if ARGV[5] == '1' then lighten(number, tonumber(told[6]), tonumber(told[7])) end
return {'accepted', first}
