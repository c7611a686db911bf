-- Replaces a schedule whose version is the one before. ARGV: id, body, version, next time. Returns 1, or 0 if it is another.
local version = redis.call('HGET', base .. 'schedule_versions', ARGV[1])
if not version or tonumber(version) ~= tonumber(ARGV[3]) - 1 then return 0 end
put(unpack(ARGV))
return 1
