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

-- Tell followers, once per transition: `ms-n seq payload` a line. Their process makes the wire
-- entry of it (`entries.wire_of`): this server's time is everybody's, theirs is not.
local function tell()
  redis.call('PUBLISH', stream, frames[2] and table.concat(frames, '\n') or frames[1])
end

-- Why a call without a fitting fence is refused.
local function refusal()
  local found = redis.call('HMGET', state, 'open', 'deleted')
  if found[1] then return {'FENCED'} end
  if found[2] then return {'GONE'} end
  return {'NO_THREAD'}
end

local function due_member(lane)
  return string.sub(stream, 13) .. '|' .. lane
end
