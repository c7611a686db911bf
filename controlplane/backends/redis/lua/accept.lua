-- Accepts frames in their order. ARGV: bounds of a mailbox (messages, bytes); mailbox, sender, type, ids, newest id, expire,
-- frame, accept of each. Returns {word, number...} of each.
local outcomes, held = {}, {}
for at = 3, #ARGV, 8 do
  local new = {
    mailbox = ARGV[at], sender = ARGV[at + 1], type = ARGV[at + 2], ids = ARGV[at + 3], newest = ARGV[at + 4],
    expire = ARGV[at + 5], frame = ARGV[at + 6], accept = ARGV[at + 7], spans = '',
  }
  local pair = new.mailbox .. '\0' .. new.sender
  local outcome
  if held[pair] then
    outcome = {'behind'}
  else
    local list = split(new.ids)
    local tokens = tokens_of(list)
    outcome = repeated(list, tokens, new.sender)
    if outcome then
      if outcome[1] == 'partly' then held[pair] = true end
    elseif not has_room(new.mailbox, #list, #new.frame, ARGV[1], ARGV[2]) then
      outcome = {'full'}
    else
      local number, first, last = put(new)
      remember(list, tokens, tostring(number))
      open(number, new, last)
      outcome = {'accepted', first}
    end
  end
  outcomes[#outcomes + 1] = outcome
end
return outcomes
