-- Returns the bodies of schedules. ARGV: `one`, name or id; `due`, time, how many; `after`, name, how many.
local found, ids = {}, {}
if ARGV[1] == 'one' then
  ids = {redis.call('HGET', base .. 'schedule_ids', ARGV[2]) or ARGV[2]}
elseif ARGV[1] == 'due' then
  ids = redis.call('ZRANGEBYSCORE', base .. 'schedule_times', '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])
else
  for _, name in ipairs(redis.call('ZRANGEBYLEX', base .. 'schedule_names', '(' .. ARGV[2], '+', 'LIMIT', 0, ARGV[3])) do
    ids[#ids + 1] = redis.call('HGET', base .. 'schedule_ids', name)
  end
end
for _, id in ipairs(ids) do found[#found + 1] = body(id) or nil end
return found
