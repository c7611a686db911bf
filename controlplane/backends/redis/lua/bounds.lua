-- Returns the oldest and the newest cursor of the log, zeros if it is empty.
local log = KEYS[1] .. 'events'
local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)
if not oldest[1] then return {0, 0} end
local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
return {tonumber(string.match(oldest[1][1], '^%d+')), tonumber(string.match(newest[1][1], '^%d+'))}
