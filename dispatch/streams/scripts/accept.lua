-- accept: append a chat entry and give birth to one dispatch per lane, all or nothing.
-- Promise: the same key never makes a second entry; a lane with work is always in the due index.
-- KEYS: stream, state, keys (idempotency hash), ages (its zset by time), due.
-- ARGV: key digest, body digest, payload, max queue, max stream, due after ms, key ttl s,
--       then per lane: lane, max attempts. A lane named twice counts once.
-- Answers: OK|DUPLICATE entry lanes | MISMATCH | FULL | BUSY lane | GONE | NO_THREAD.
local keys, ages, due = KEYS[3], KEYS[4], KEYS[5]
local digest, body, payload = ARGV[1], ARGV[2], ARGV[3]
local max_queue, max_stream = tonumber(ARGV[4]), tonumber(ARGV[5])
local found = redis.call('HMGET', state, 'open', 'seq', 'outcome')
if not found[1] then return refusal() end

local known = redis.call('HGET', keys, digest)
if known then
  local known_body, entry, lanes = string.match(known, '^(%S+) (%S+) ?(.*)$')
  if known_body ~= body then return {'MISMATCH'} end
  return {'DUPLICATE', entry, lanes}
end
if redis.call('XLEN', stream) >= max_stream then return {'FULL'} end
local lanes, waiting = {}, {}
for i = 8, #ARGV, 2 do
  local lane = ARGV[i]
  local work = redis.call('HMGET', state, 'queue:' .. lane, 'run:' .. lane)
  local depth = 0
  if work[1] then depth = select(2, string.gsub(work[1], ' ', '')) + 1 end
  if depth >= max_queue then return {'BUSY', lane} end
  if not waiting[lane] then lanes[#lanes + 1] = lane end
  waiting[lane] = {queue = work[1], run = work[2], attempts = ARGV[i + 1]}
end

local now = now_ms()
local seq = found[2] + 1
local entry, at = add(payload, seq)
local fields = {}
local mark = entry
for i, lane in ipairs(lanes) do
  local dispatch = entry .. '.' .. (i - 1)
  local attempts = waiting[lane].attempts
  seq = seq + 1
  mark, at = add('{"type":"signal.dispatch.queued","dispatchId":"' .. dispatch
    .. '","entryId":"' .. entry .. '","agentId":"' .. lane
    .. '","maxAttempts":' .. attempts .. '}', seq)
  local queue = waiting[lane].queue
  fields[#fields + 1] = 'queue:' .. lane
  fields[#fields + 1] = queue and (queue .. ' ' .. dispatch) or dispatch
  fields[#fields + 1] = 'dispatch:' .. dispatch
  fields[#fields + 1] = lane .. ',0,' .. attempts .. ',0'
  if not queue and not waiting[lane].run then
    fields[#fields + 1] = 'since:' .. lane
    fields[#fields + 1] = at
    redis.call('ZADD', due, now + ARGV[6], due_member(lane))
  end
end
redis.call('HSET', state, 'seq', seq, 'mark', mark, unpack(fields))
if found[3] then redis.call('HDEL', state, 'outcome') end

local ttl = tonumber(ARGV[7])
local joined = table.concat(lanes, ' ')
redis.call('HSET', keys, digest, body .. ' ' .. entry .. ' ' .. joined)
redis.call('ZADD', ages, now, digest)
local old = redis.call('ZRANGEBYSCORE', ages, '-inf', now - ttl * 1000, 'LIMIT', 0, 16)
if #old > 0 then
  redis.call('HDEL', keys, unpack(old))
  redis.call('ZREM', ages, unpack(old))
end
redis.call('EXPIRE', keys, ttl)
redis.call('EXPIRE', ages, ttl)
tell()
return {'OK', entry, joined}
