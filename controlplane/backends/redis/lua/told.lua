-- Forgets what senders were owed. ARGV: mailbox, position, mailbox, position...
for at = 1, #ARGV, 2 do
  local member = string.format('%s\0%016.0f', ARGV[at], tonumber(ARGV[at + 1]))
  redis.call('ZREM', base .. 'owed', member)
  redis.call('HDEL', base .. 'owed_frames', member)
end
