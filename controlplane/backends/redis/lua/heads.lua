-- Returns the first tasks of every lane: score, id, body, score, ... ARGV: how many of each.
local found = {}
for _, lane in ipairs(redis.call('SMEMBERS', base .. 'lanes')) do
  local heads = redis.call('ZRANGE', base .. lane, 0, tonumber(ARGV[1]) - 1, 'WITHSCORES')
  for at = 1, #heads, 2 do
    found[#found + 1] = heads[at + 1]
    found[#found + 1] = heads[at]
    found[#found + 1] = body(heads[at])
  end
end
return found
