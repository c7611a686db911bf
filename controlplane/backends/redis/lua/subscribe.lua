-- Subscribes a mailbox to a topic. ARGV: topic, mailbox, most topics, most mailboxes. Returns which bound it would pass, or false.
local base, topic, mailbox = KEYS[1], ARGV[1], ARGV[2]
local pair = topic .. '\0' .. mailbox
local of_topic, of_mailbox = base .. 'topic:' .. topic, base .. 'topics:' .. mailbox
if redis.call('ZSCORE', base .. 'subscriptions', pair) then return false end
if redis.call('ZCARD', of_mailbox) >= tonumber(ARGV[3]) then return 'topics' end
if redis.call('ZCARD', of_topic) >= tonumber(ARGV[4]) then return 'mailboxes' end
redis.call('ZADD', base .. 'subscriptions', 0, pair)
redis.call('ZADD', of_topic, 0, mailbox)
redis.call('ZADD', of_mailbox, 0, topic)
return false
