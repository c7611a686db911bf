-- Stores a new schedule. ARGV: id, body, version, next time, name. Returns the body of the one that has the name already, or false.
local earlier = redis.call('HGET', base .. 'schedule_ids', ARGV[5])
if earlier then return body(earlier) end
redis.call('HSET', base .. 'schedule_ids', ARGV[5], ARGV[1])
redis.call('ZADD', base .. 'schedule_names', 0, ARGV[5])
put(ARGV[1], ARGV[2], ARGV[3], ARGV[4])
return false
