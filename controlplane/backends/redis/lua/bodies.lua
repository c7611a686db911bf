-- Returns the tasks whose ids stand in an index within bounds: the bodies, in its order.
-- ARGV: how it is read (a command like ZRANGEBYLEX), how many at most (0: all), from, to, index...
local found = {}
for at = 5, #ARGV do
  local ids
  if ARGV[2] == '0' then
    ids = redis.call(ARGV[1], base .. ARGV[at], ARGV[3], ARGV[4])
  else
    ids = redis.call(ARGV[1], base .. ARGV[at], ARGV[3], ARGV[4], 'LIMIT', 0, ARGV[2])
  end
  for _, id in ipairs(ids) do found[#found + 1] = body(id) end
end
return found
