-- Ends subscriptions of a mailbox. ARGV: mailbox, topic (all of them if there is none).
local base, mailbox = KEYS[1], ARGV[1]
local of_mailbox = base .. 'topics:' .. mailbox
local topics = ARGV[2] and {ARGV[2]} or redis.call('ZRANGE', of_mailbox, 0, -1)
for _, topic in ipairs(topics) do
  redis.call('ZREM', base .. 'subscriptions', topic .. '\0' .. mailbox)
  redis.call('ZREM', base .. 'topic:' .. topic, mailbox)
  redis.call('ZREM', of_mailbox, topic)
end
