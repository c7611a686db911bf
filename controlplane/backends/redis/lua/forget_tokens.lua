-- Forgets tokens that need not be kept. ARGV: until when, as a bound of a range. Returns 1 if there may be more.
local base = KEYS[1]
local hashes = redis.call('ZRANGEBYSCORE', base .. 'token_ends', '-inf', ARGV[1], 'LIMIT', 0, 1000)
for _, hash in ipairs(hashes) do
  redis.call('ZREM', base .. 'token_ends', hash)
  redis.call('HDEL', base .. 'tokens', redis.call('HGET', base .. 'token_hashes', hash))
  redis.call('HDEL', base .. 'token_hashes', hash)
end
return #hashes == 1000 and 1 or 0
