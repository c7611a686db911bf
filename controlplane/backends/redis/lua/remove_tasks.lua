-- Forgets tasks and the requests that made them. ARGV: id...
for _, id in ipairs(ARGV) do
  local places = redis.call('HGET', base .. 'places', id)
  if places then
    places = cjson.decode(places)
    leave(id, places)
    if places[2] ~= '' and redis.call('HGET', base .. 'requests', places[2]) == id then
      redis.call('HDEL', base .. 'requests', places[2])
      redis.call('ZREM', base .. 'request_times', places[2])
    end
    redis.call('HDEL', base .. 'places', id)
    redis.call('HDEL', base .. 'tasks', id)
  end
end
