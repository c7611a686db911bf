-- Returns how many queued tasks stand before a score, and the ids of those at it. ARGV: score.
local queue, score = base .. 'queued', ARGV[1]
local found = redis.call('ZRANGEBYSCORE', queue, score, score)
table.insert(found, 1, redis.call('ZCOUNT', queue, '-inf', '(' .. score))
return found
