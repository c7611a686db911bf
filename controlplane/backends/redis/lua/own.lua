-- Who may use what is stored here? One control plane at a time. ARGV: take, keep or leave; home; life; words about it; milliseconds.
-- `take` succeeds for the home that has it, `keep` for the life that has it; both if nobody has. Returns nothing, or {words, ms left}
-- of who has it instead.
local owner, home, life = KEYS[1] .. 'owner', ARGV[2], ARGV[3]
local now = redis.call('HMGET', owner, 'home', 'life', 'words')
if ARGV[1] == 'leave' then
  if now[2] == life then redis.call('DEL', owner) end
  return false
end
if now[1] and (now[1] ~= home or (ARGV[1] == 'keep' and now[2] ~= life)) then
  return {now[3], redis.call('PTTL', owner)}
end
redis.call('HSET', owner, 'home', home, 'life', life, 'words', ARGV[4])
redis.call('PEXPIRE', owner, ARGV[5])
return false
