-- Tasks of one tenant. `tasks`: id -> body. `places`: id -> {version, request, {index, score}...}: where else its id stands.
-- An index is a sorted set of ids; `lanes` has the names of those that are lanes and not empty.
local base = KEYS[1]

local function enter(id, places)
  for at = 3, #places do
    local index = places[at][1]
    redis.call('ZADD', base .. index, places[at][2], id)
    if string.sub(index, 1, 5) == 'lane:' then redis.call('SADD', base .. 'lanes', index) end
  end
end

local function leave(id, places)
  for at = 3, #places do
    local index = places[at][1]
    redis.call('ZREM', base .. index, id)
    if string.sub(index, 1, 5) == 'lane:' and redis.call('EXISTS', base .. index) == 0 then
      redis.call('SREM', base .. 'lanes', index)
    end
  end
end

local function body(id)
  return redis.call('HGET', base .. 'tasks', id)
end
