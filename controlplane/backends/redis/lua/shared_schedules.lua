-- Schedules of one tenant. `schedules`: id -> body; `schedule_versions`: id -> version; `schedule_ids`: name -> id; sorted sets
-- `schedule_names` of names, `schedule_times` of ids by the time they fire next.
local base = KEYS[1]

local function body(id)
  return redis.call('HGET', base .. 'schedules', id)
end

-- `time`: empty if it does not fire.
local function put(id, text, version, time)
  redis.call('HSET', base .. 'schedules', id, text)
  redis.call('HSET', base .. 'schedule_versions', id, version)
  if time == '' then
    redis.call('ZREM', base .. 'schedule_times', id)
  else
    redis.call('ZADD', base .. 'schedule_times', time, id)
  end
end
