-- Replaces tokens, all or none. ARGV: id, body before, body after of each. Returns 1, or 0 if one is another meanwhile.
local tokens = KEYS[1] .. 'tokens'
for at = 1, #ARGV, 3 do
  if redis.call('HGET', tokens, ARGV[at]) ~= ARGV[at + 1] then return 0 end
end
for at = 1, #ARGV, 3 do redis.call('HSET', tokens, ARGV[at], ARGV[at + 2]) end
return 1
