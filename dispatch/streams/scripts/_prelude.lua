-- Shared by every transition. KEYS[1] is the thread's stream, KEYS[2] its state hash.
-- A script validates everything before its first write: a Lua error does not undo writes.
local stream, state = KEYS[1], KEYS[2]
local frames = {}

-- Redis's ms-n as the public, text-ordered id, and its milliseconds (as text).
local function public(id)
  local ms, n = string.match(id, '^(%d+)-(%d+)$')
  return string.format('%015d_%010d', ms, n), ms
end

-- Append one entry and remember what followers will be told. seq: durable entries only.
-- writer: `<run id>:<n>`, entries of a run only. Returns the Redis id.
local function add_raw(payload, seq, writer)
  local id
  if seq and writer then
    id = redis.call('XADD', stream, next_id(), 'p', payload, 's', seq, 'w', writer)
  elseif seq then
    id = redis.call('XADD', stream, next_id(), 'p', payload, 's', seq)
  else
    id = redis.call('XADD', stream, next_id(), 'p', payload, 'w', writer)
  end
  frames[#frames + 1] = id .. ' ' .. (seq or '') .. ' ' .. payload
  return id
end

-- The same; returns public id, milliseconds, Redis id.
local function add(payload, seq, writer)
  local id = add_raw(payload, seq, writer)
  local entry, ms = public(id)
  return entry, ms, id
end

-- The newest Redis id the stream ever gave, also if that entry was deleted since; nil: no stream.
local function newest_id()
  if redis.call('EXISTS', stream) == 0 then return nil end
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end

-- Tell followers, once per transition: `ms-n seq payload` a line. Their process makes the wire
-- entry of it (`entries.wire_of`): this server's time is everybody's, theirs is not.
local function tell()
  redis.call('PUBLISH', stream, frames[2] and table.concat(frames, '\n') or frames[1])
end

-- Why a call is refused whose fence does not fit, or whose thread's `boot` is not BOOT.
local function refusal(boot)
  local found = redis.call('HMGET', state, 'open', 'deleted')
  if found[1] then return {boot == BOOT and 'FENCED' or 'RESTARTED'} end
  if found[2] then return {'GONE'} end
  return {'NO_THREAD'}
end

-- The row does not know yet how the thread stands; a sweep tells it if nobody else does.
local function mark_dirty(dirty)
  redis.call('ZADD', dirty, 'NX', string.format('%d', now_ms()), string.sub(stream, 13))
end

local function due_member(lane)
  return string.sub(stream, 13) .. '|' .. lane
end

-- What the hash holds of a dispatch. `policy` is empty in records of an older version.
local function record_of(dispatch)
  local text = redis.call('HGET', state, 'dispatch:' .. dispatch)
  local lane, attempt, max, not_before, rest =
    string.match(text, '^([^,]+),([^,]+),([^,]+),([^,]+)(.*)$')
  local policy, checkpoint = string.match(rest, '^,([^,]*),(.*)$')
  return {lane = lane, attempt = tonumber(attempt), max = tonumber(max),
    not_before = tonumber(not_before), policy = policy or '', checkpoint = checkpoint or ''}
end

local function record_text(record)
  return string.format('%s,%d,%d,%d,%s,%s', record.lane, record.attempt, record.max,
    record.not_before, record.policy, record.checkpoint)
end

-- repeatable, backoff, max backoff, run timeout, warn, progress: milliseconds.
local function limits_of(record)
  local text = record.policy ~= '' and record.policy or '0:1000:60000:7200000:300000:900000'
  local repeatable, backoff, max_backoff, timeout, warn, progress =
    string.match(text, '^(%d+):(%d+):(%d+):(%d+):(%d+):(%d+)$')
  return {repeatable = repeatable == '1', backoff = tonumber(backoff),
    max_backoff = tonumber(max_backoff), timeout = tonumber(timeout), warn = tonumber(warn),
    progress = tonumber(progress)}
end

-- The dispatches named in a field, one table; nil and '' name none.
local function words(text)
  local found = {}
  for word in string.gmatch(text or '', '%S+') do found[#found + 1] = word end
  return found
end

-- Set a field to some words, or delete it when there are none.
local function set_words(field, list)
  if #list > 0 then
    redis.call('HSET', state, field, table.concat(list, ' '))
  else
    redis.call('HDEL', state, field)
  end
end

-- A word as it was before it was made safe for a field (percent-encoded), as JSON text.
local function json_of(word)
  return cjson.encode((string.gsub(word, '%%(%x%x)', function(hex)
    return string.char(tonumber(hex, 16))
  end)))
end

-- What a dispatch waits for others to answer: `id,kind,deadline,default,call` a word.
local function asks_of(dispatch)
  local asks = {}
  for _, word in ipairs(words(redis.call('HGET', state, 'asks:' .. dispatch))) do
    local id, kind, deadline, default, call =
      string.match(word, '^([^,]+),([^,]+),(%d+),([^,]+),(.*)$')
    asks[#asks + 1] = {id = id, kind = kind, deadline = tonumber(deadline), default = default,
      call = call, word = word}
  end
  return asks
end

-- Calls of a dispatch whose results somebody outside has given; its next run writes them down.
local function answered_field(dispatch)
  return 'answered:' .. dispatch
end

-- The same words but for one.
local function without(list, word)
  local left = {}
  for _, each in ipairs(list) do
    if each ~= word then left[#left + 1] = each end
  end
  return left
end

-- Tool calls of a dispatch that an event announces (`+id,name …`) or answers (`-id`).
local function note_calls(dispatch, change)
  if change == '' then return end
  local field = 'calls:' .. dispatch
  local open, is_open, left = words(redis.call('HGET', state, field)), {}, {}
  local closed = string.match(change, '^%-(.+)$')
  for _, word in ipairs(open) do
    local id = string.match(word, '^[^,]+')
    is_open[id] = true
    if id ~= closed then left[#left + 1] = word end
  end
  if not closed then
    for _, word in ipairs(words(string.sub(change, 2))) do
      local id = string.match(word, '^[^,]+')
      if not is_open[id] then left[#left + 1] = word end
      is_open[id] = true
    end
  end
  set_words(field, left)
  local answered = closed and redis.call('HGET', state, answered_field(dispatch))
  if answered then set_words(answered_field(dispatch), without(words(answered), closed)) end
end

-- Nobody will answer the open tool calls of a dispatch any more: each gets a result that says so.
-- keeps_asked: those that wait for somebody's answer, or have their result from outside, stay
-- open. Returns seq.
local function interrupt_calls(dispatch, seq, keeps_asked)
  local text = redis.call('HGET', state, 'calls:' .. dispatch)
  if not text then return seq end
  local asked, left = {}, {}
  if keeps_asked then
    for _, ask in ipairs(asks_of(dispatch)) do asked[ask.call] = true end
    local answered = words(redis.call('HGET', state, answered_field(dispatch)))
    for _, call in ipairs(answered) do asked[call] = true end
  end
  for _, word in ipairs(words(text)) do
    local id, name = string.match(word, '^([^,]+),(.*)$')
    if asked[id] then
      left[#left + 1] = word
    else
      local call = '"toolCallId":' .. json_of(id) .. ',"toolName":' .. json_of(name)
      seq = seq + 1
      add_raw('{"type":"pi.tool_result",' .. call .. ',"isError":true,"turnIndex":0,"dispatchId":"'
        .. dispatch .. '","message":{"role":"toolResult",' .. call
        .. ',"content":[{"type":"text","text":"Interrupted: nobody knows whether it was done, or'
        .. ' how it ended."}],"details":{"interrupted":true},"isError":true,"timestamp":'
        .. string.format('%d', now_ms()) .. '}}', seq)
    end
  end
  set_words('calls:' .. dispatch, left)
  return seq
end

-- A dispatch has ended: the hash holds nothing of it any more.
local function forget(dispatch)
  redis.call('HDEL', state, 'dispatch:' .. dispatch, 'calls:' .. dispatch, 'asks:' .. dispatch,
    answered_field(dispatch))
end

-- What waits in a lane to steer a turn: the dispatches meant for `target`, then the pairs
-- `dispatch,target` of all others, each in the order of posting.
local function steering(text, target)
  local its, others = {}, {}
  for _, pair in ipairs(words(text)) do
    local dispatch, of = string.match(pair, '^([^,]+),(.+)$')
    if of == target then its[#its + 1] = dispatch else others[#others + 1] = pair end
  end
  return its, others
end

-- The turn `target` has ended: what was to steer it will be turns of their own. Returns seq.
local function fall_through(lane, target, seq)
  local its, others = steering(redis.call('HGET', state, 'steer:' .. lane), target)
  if #its == 0 then return seq end
  for _, dispatch in ipairs(its) do
    seq = seq + 1
    add_raw('{"type":"signal.dispatch.fell_through","dispatchId":"' .. dispatch
      .. '","entryId":"' .. string.match(dispatch, '^[^.]+')
      .. '","target":"' .. target .. '"}', seq)
  end
  set_words('steer:' .. lane, others)
  redis.call('HSET', state, 'seq', seq)
  return seq
end
