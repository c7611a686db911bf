-- Stores a new task. ARGV: id, body, places, request key, when it was created, since when request keys count.
-- Returns nothing; or the body of the task that has this request key; or 0 if there is a task with this id.
local id, places, request, created, horizon = ARGV[1], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local requests, times = base .. 'requests', base .. 'request_times'
for _, old in ipairs(redis.call('ZRANGEBYSCORE', times, '-inf', horizon, 'LIMIT', 0, 1000)) do
  redis.call('HDEL', requests, old)
  redis.call('ZREM', times, old)
end
if request ~= '' then
  local since = redis.call('ZSCORE', times, request)
  if since and tonumber(since) > tonumber(horizon) then
    local earlier = body(redis.call('HGET', requests, request))
    if earlier then return earlier end
  end
end
if redis.call('HSETNX', base .. 'tasks', id, ARGV[2]) == 0 then return 0 end
if request ~= '' then
  redis.call('HSET', requests, request, id)
  redis.call('ZADD', times, created, request)
end
redis.call('HSET', base .. 'places', id, places)
enter(id, cjson.decode(places))
return false
