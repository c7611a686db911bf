-- Forgets what is kept no longer, the oldest first. ARGV: most bytes, most messages, until when frames are hidden and until when they
-- are forgotten with their ids (times; empty: not asked), how many messages are looked at. Returns 1 if there is more to do.
local budget = tonumber(ARGV[5])

local function drop(number)
  local told = redis.call('HMGET', base .. 'frame:' .. number, 'count', 'size', 'newest')
  local count = tonumber(told[1])
  hide(number, count, told[3])  -- first, as it needs no memory: a script that has changed something may go on when memory is full
  lighten(number, count, tonumber(told[2]))
  budget = budget - 1 - count / 16
end

local function over(sum, most)
  return most ~= '' and tonumber(redis.call('GET', base .. sum) or 0) > tonumber(most)
end

for _, bound in ipairs({{'heavy', 'kept_bytes', ARGV[1]}, {'kept', 'kept_messages', ARGV[2]}}) do
  while over(bound[2], bound[3]) do
    if budget <= 0 then return 1 end
    drop(redis.call('ZRANGE', base .. bound[1], 0, 0)[1])
  end
end

local function first(index, until_ms)
  return until_ms ~= '' and redis.call('ZRANGEBYSCORE', base .. index, '-inf', until_ms, 'LIMIT', 0, 1)[1]
end

local number = first('kept', ARGV[3])
while number do
  if budget <= 0 then return 1 end
  drop(number)
  number = first('kept', ARGV[3])
end

local function forget_ids(ids, token)
  for _, id in ipairs(split(ids)) do
    rename(id, token)
    rename(id, 'c' .. token)
    budget = budget - 1
  end
end

number = first('ended', ARGV[4])
while number do
  if budget <= 0 then return 1 end
  local told = redis.call('HMGET', base .. 'frame:' .. number, 'mailbox', 'first', 'count')
  local start, count = tonumber(told[2]), tonumber(told[3])
  drop(number)
  forget_ids(ids_of(number, count), number)
  for position = start, start + count - 1 do
    local member = string.format('%s\0%016.0f', told[1], position)
    if redis.call('ZREM', base .. 'owed', member) == 1 then redis.call('HDEL', base .. 'owed_frames', member) end
  end
  redis.call('DEL', base .. 'frame:' .. number, base .. 'body:' .. number)
  redis.call('ZREM', base .. 'ended', number)
  number = first('ended', ARGV[4])
end

number = first('published', ARGV[4])
while number do
  if budget <= 0 then return 1 end
  local publication = base .. 'publication:' .. number
  forget_ids(redis.call('HGET', publication, 'ids'), 'p' .. number)
  redis.call('DEL', publication)
  redis.call('ZREM', base .. 'published', number)
  budget = budget - 1
  number = first('published', ARGV[4])
end
return 0
