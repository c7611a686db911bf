-- Returns facts and body of every frame that is shown and has this id, and `c` if it is a copy. ARGV: id.
local found = {}
for mark, number in string.gmatch(redis.call('HGET', base .. 'ids', ARGV[1]) or '', '(%a?)(%d+)') do
  local frame = mark ~= 'p' and facts(number)
  if frame and redis.call('ZSCORE', base .. 'listed', redis.call('HGET', base .. 'frame:' .. number, 'newest') .. number) then
    frame[#frame + 1] = redis.call('GET', base .. 'body:' .. number)
    frame[#frame + 1] = mark
    found[#found + 1] = frame
  end
end
return found
