-- Returns facts and ids of frames that are shown, the newest first. ARGV: where to begin (as ZREVRANGEBYLEX wants it), how many are
-- looked at, mailbox (empty: any). Returns the place to go on from (empty: there is no more), then the frames with their newest ids.
local members = redis.call('ZREVRANGEBYLEX', base .. 'listed', ARGV[1], '-', 'LIMIT', 0, ARGV[2])
local found = {#members == tonumber(ARGV[2]) and members[#members] or ''}
for _, member in ipairs(members) do
  local frame = facts(string.sub(member, 17))
  if ARGV[3] == '' or frame[2] == ARGV[3] then
    frame[#frame + 1] = ids_of(frame[1], tonumber(frame[6]))
    frame[#frame + 1] = string.sub(member, 1, 16)
    found[#found + 1] = frame
  end
end
return found
