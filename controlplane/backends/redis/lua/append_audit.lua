-- Appends records to the audit chain, if the first of them follows the newest one. ARGV: its number, record...
-- Returns 1, also if they are there already (the answer to an earlier call was lost), or 0 if something else is.
local chain = KEYS[1] .. 'records'
local first = tonumber(ARGV[1])
local length = redis.call('LLEN', chain)
if length == first - 1 then
  for at = 2, #ARGV do redis.call('RPUSH', chain, ARGV[at]) end
  return 1
end
if length < first - 2 + #ARGV then return 0 end
for at = 2, #ARGV do
  if redis.call('LINDEX', chain, first + at - 3) ~= ARGV[at] then return 0 end
end
return 1
