-- Stores a new token. ARGV: id, body, its hash, until when it is kept. Hashes stand in `token_ends`, by which they are forgotten.
local base = KEYS[1]
redis.call('HSET', base .. 'tokens', ARGV[1], ARGV[2])
redis.call('HSET', base .. 'token_hashes', ARGV[3], ARGV[1])
redis.call('ZADD', base .. 'token_ends', ARGV[4], ARGV[3])
