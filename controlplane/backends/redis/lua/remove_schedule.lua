-- Forgets a schedule. ARGV: id, name. Returns whether it was there.
if redis.call('HDEL', base .. 'schedules', ARGV[1]) == 0 then return 0 end
redis.call('HDEL', base .. 'schedule_versions', ARGV[1])
redis.call('HDEL', base .. 'schedule_ids', ARGV[2])
redis.call('ZREM', base .. 'schedule_names', ARGV[2])
redis.call('ZREM', base .. 'schedule_times', ARGV[1])
return 1
