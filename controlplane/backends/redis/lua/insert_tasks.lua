-- Stores new tasks, all or none. ARGV: since when request keys count; id, body, places, request key, when it was created of each.
-- Returns {'stored'}; or {'stored', place, body, ...} of the tasks that have such request keys already; or {'known', id} where
-- there is a task with an id.
local requests, times, horizon = base .. 'requests', base .. 'request_times', ARGV[1]
local found = {'stored'}
for at = 2, #ARGV, 5 do
  local request = ARGV[at + 3]
  local since = request ~= '' and redis.call('ZSCORE', times, request)
  if since and tonumber(since) > tonumber(horizon) then
    local earlier = body(redis.call('HGET', requests, request))
    if earlier then
      found[#found + 1] = (at - 2) / 5
      found[#found + 1] = earlier
    end
  end
end
if #found > 1 then return found end
for at = 2, #ARGV, 5 do
  if redis.call('HEXISTS', base .. 'tasks', ARGV[at]) == 1 then return {'known', ARGV[at]} end
end
for at = 2, #ARGV, 5 do
  local id, places, request = ARGV[at], ARGV[at + 2], ARGV[at + 3]
  redis.call('HSET', base .. 'tasks', id, ARGV[at + 1])
  redis.call('HSET', base .. 'places', id, places)
  enter(id, cjson.decode(places))
  if request ~= '' then
    redis.call('HSET', requests, request, id)
    redis.call('ZADD', times, ARGV[at + 4], request)
  end
end
for _, old in ipairs(redis.call('ZRANGEBYSCORE', times, '-inf', horizon, 'LIMIT', 0, 1000)) do
  redis.call('HDEL', requests, old)
  redis.call('ZREM', times, old)
end
return found
