-- Returns publications: number, mailbox, sender, type, ids, expire, accept, recipients, made, frame of each.
-- ARGV: `unfinished`; or `number`, number; or `id`, id.
local numbers = {}
if ARGV[1] == 'unfinished' then
  numbers = redis.call('ZRANGE', base .. 'unfinished', 0, -1)
elseif ARGV[1] == 'number' then
  numbers = {ARGV[2]}
else
  for number in string.gmatch(redis.call('HGET', base .. 'ids', ARGV[2]) or '', 'p(%d+)') do numbers[#numbers + 1] = number end
end
local found = {}
for _, number in ipairs(numbers) do
  local told = redis.call('HMGET', base .. 'publication:' .. number, 'mailbox', 'sender', 'type', 'ids', 'expire', 'accept',
    'recipients', 'made')
  if told[1] then
    table.insert(told, 1, number)
    told[#told + 1] = redis.call('GET', base .. 'said:' .. number) or ''
    found[#found + 1] = told
  end
end
return found
