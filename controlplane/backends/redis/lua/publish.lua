-- Stores a message for many. ARGV: number, mailbox, sender, type, ids, expire, frame, accept, recipients, how many they are.
-- Returns {word, number...}.
local number, sender, ids, expire, accept, count = ARGV[1], ARGV[3], ARGV[5], ARGV[6], ARGV[8], tonumber(ARGV[10])
local list = split(ids)
local tokens = tokens_of(list)
local outcome = repeated(list, tokens, sender)
if outcome then return outcome end
redis.call('HSET', base .. 'publication:' .. number, 'mailbox', ARGV[2], 'sender', sender, 'type', ARGV[4], 'ids', ids,
  'expire', expire, 'accept', accept, 'recipients', ARGV[9], 'count', count, 'made', 0)
remember(list, tokens, 'p' .. number)
if count > 0 then
  redis.call('SET', base .. 'said:' .. number, ARGV[7])
  redis.call('ZADD', base .. 'unfinished', number, number)
else
  redis.call('ZADD', base .. 'published', math.max(tonumber(accept), tonumber(expire)), number)
end
return {'accepted', 0}
