-- Appends events to the log and drops the oldest beyond what is kept. ARGV: kept, event... Returns the newest cursor.
local log = KEYS[1] .. 'events'
local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
local cursor = newest[1] and tonumber(string.match(newest[1][1], '^%d+')) or 0
for at = 2, #ARGV do
  cursor = cursor + 1
  redis.call('XADD', log, string.format('%.0f-0', cursor), 'e', ARGV[at])
end
redis.call('XTRIM', log, 'MAXLEN', ARGV[1])
return cursor
