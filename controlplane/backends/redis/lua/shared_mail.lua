-- Mailboxes of one tenant.
--   box:NAME          hash: next position, messages and bytes of what is open
--   open:NAME         frames with an open message, by the position of the last such
--   frame:N           hash: what a frame is and where its messages stand (`spans`: text that only Python reads)
--   body:N            its ids, 16 bytes each, and what it says
--   ids               id -> tokens: N, a frame; cN, a copy; pN, a publication
--   expiring, ended   frames by the time they expire and have ended
--   kept, heavy       ended frames that are still shown; that still hold bytes. Sums: kept_messages, kept_bytes
--   listed            newest id and number of every frame that is shown
--   owed, owed_frames bounced messages whose senders are still to be told
--   publication:N, said:N, unfinished, published   messages for many
-- Ids are compared by Redis and Python only: Lua compares by the locale of the server.
local base = KEYS[1]
local CHUNK = 1000

local function split(ids)
  local list = {}
  for at = 1, #ids, 16 do list[#list + 1] = string.sub(ids, at, at + 15) end
  return list
end

local function tokens_of(list)
  local found = {}
  for start = 1, #list, CHUNK do
    local some = redis.call('HMGET', base .. 'ids', unpack(list, start, math.min(start + CHUNK - 1, #list)))
    for _, tokens in ipairs(some) do found[#found + 1] = tokens end
  end
  return found
end

-- Returns the token under which this sender had an id accepted, if it had.
local function accepted(tokens, sender)
  if not tokens then return nil end
  for mark, number in string.gmatch(tokens, '(%a?)(%d+)') do
    if mark ~= 'c' then
      local of = (mark == 'p' and 'publication:' or 'frame:') .. number
      if redis.call('HGET', base .. of, 'sender') == sender then return mark .. number end
    end
  end
end

-- Returns what a frame is that was accepted before, wholly or partly; nil for a new one.
local function repeated(list, tokens, sender)
  local before, indexes, first = {}, {}, nil
  for index, id in ipairs(list) do
    local token = accepted(tokens[index], sender)
    if index == 1 then first = token end
    if token or before[id] then indexes[#indexes + 1] = index - 1 end
    before[id] = true
  end
  if #indexes < #list then
    if #indexes == 0 then return nil end
    table.insert(indexes, 1, 'partly')
    return indexes
  end
  local publication = first and string.match(first, '^p(%d+)$')
  return {'duplicate', publication and tonumber(redis.call('HGET', base .. 'publication:' .. publication, 'count')) or 1}
end

local function remember(list, tokens, token)
  for start = 1, #list, CHUNK do
    local pairs_of = {}
    for index = start, math.min(start + CHUNK - 1, #list) do
      pairs_of[#pairs_of + 1] = list[index]
      pairs_of[#pairs_of + 1] = tokens[index] and (tokens[index] .. ' ' .. token) or token
    end
    redis.call('HSET', base .. 'ids', unpack(pairs_of))
  end
end

-- Replaces a token of an id by another, or removes it.
local function rename(id, old, new)
  local tokens, left = redis.call('HGET', base .. 'ids', id), {}
  for token in string.gmatch(tokens or '', '%S+') do
    if token ~= old then left[#left + 1] = token elseif new then left[#left + 1] = new end
  end
  if #left > 0 then
    redis.call('HSET', base .. 'ids', id, table.concat(left, ' '))
  elseif tokens then
    redis.call('HDEL', base .. 'ids', id)
  end
end

local function has_room(mailbox, count, size, most, most_bytes)
  local now = redis.call('HMGET', base .. 'box:' .. mailbox, 'messages', 'bytes')
  return (tonumber(now[1]) or 0) + count <= tonumber(most) and (tonumber(now[2]) or 0) + size <= tonumber(most_bytes)
end

-- Puts a frame at the end of its mailbox; returns its number, and its first and last position.
local function put(new)
  local number, count = redis.call('INCR', base .. 'frames'), #new.ids / 16
  local box = base .. 'box:' .. new.mailbox
  local first = tonumber(redis.call('HGET', box, 'next') or 1)
  redis.call('HSET', box, 'next', first + count)
  redis.call('HSET', base .. 'frame:' .. number, 'mailbox', new.mailbox, 'sender', new.sender, 'type', new.type,
    'first', first, 'count', count, 'size', #new.frame, 'accept', new.accept, 'expire', new.expire, 'spans', new.spans,
    'newest', new.newest)
  redis.call('SET', base .. 'body:' .. number, new.ids .. new.frame)
  redis.call('ZADD', base .. 'listed', 0, new.newest .. number)
  return number, first, first + count - 1
end

-- Counts a frame that was just put as open.
local function open(number, new, last)
  local box = base .. 'box:' .. new.mailbox
  redis.call('ZADD', base .. 'open:' .. new.mailbox, last, number)
  if tonumber(new.expire) > 0 then redis.call('ZADD', base .. 'expiring', new.expire, number) end
  redis.call('HINCRBY', box, 'messages', #new.ids / 16)
  redis.call('HINCRBY', box, 'bytes', #new.frame)
end

local function empty(number, count)
  local body = base .. 'body:' .. number
  redis.call('SET', body, redis.call('GETRANGE', body, 0, 16 * count - 1))
end

-- Counts a frame as ended; `settled`: nobody can ask what it said any more.
local function finish(number, count, size, ms, settled)
  redis.call('ZADD', base .. 'ended', ms, number)
  redis.call('ZADD', base .. 'kept', ms, number)
  redis.call('INCRBY', base .. 'kept_messages', count)
  if settled then
    empty(number, count)
  elseif size > 0 then
    redis.call('ZADD', base .. 'heavy', ms, number)
    redis.call('INCRBY', base .. 'kept_bytes', size)
  end
end

local function lighten(number, count, size)
  empty(number, count)
  if redis.call('ZREM', base .. 'heavy', number) == 1 then redis.call('DECRBY', base .. 'kept_bytes', size) end
end

-- Shows a frame no more.
local function hide(number, count, newest)
  redis.call('ZREM', base .. 'listed', newest .. number)
  if redis.call('ZREM', base .. 'kept', number) == 1 then redis.call('DECRBY', base .. 'kept_messages', count) end
end

local FACTS = {'mailbox', 'sender', 'type', 'first', 'count', 'size', 'accept', 'expire', 'spans'}

-- Returns a frame's number and facts in the order of FACTS, or nil.
local function facts(number)
  local found = redis.call('HMGET', base .. 'frame:' .. number, unpack(FACTS))
  if not found[1] then return nil end
  table.insert(found, 1, tostring(number))
  return found
end

local function ids_of(number, count)
  return redis.call('GETRANGE', base .. 'body:' .. number, 0, 16 * count - 1)
end
