-- Replaces a task whose version is the one before. ARGV: id, body, places, version before. Returns 1, or 0 if it is another.
local id = ARGV[1]
local old = redis.call('HGET', base .. 'places', id)
if not old then return 0 end
old = cjson.decode(old)
if old[1] ~= tonumber(ARGV[4]) then return 0 end
leave(id, old)
redis.call('HSET', base .. 'tasks', id, ARGV[2])
redis.call('HSET', base .. 'places', id, ARGV[3])
enter(id, cjson.decode(ARGV[3]))
return 1
