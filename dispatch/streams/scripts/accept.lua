-- accept: append a chat entry and give birth to one dispatch per lane, all or nothing; what a
-- busy lane makes of it is the poster's choice.
-- Promise: the same key never makes a second entry; a lane with work is always in the due index.
-- KEYS: stream, state, keys (idempotency hash), ages (its zset by time), due, dirty.
-- ARGV: key digest, body digest, payload, max queue, max stream, due after ms, key ttl s, when
--       busy, wanted statuses ('' any), `idle` or `open` (a sub-job's or a chat's word at rest),
--       cancel grace ms, who (`,"by":…`), then per lane: lane, max attempts, policy text, policy
--       JSON from `maxAttempts` on. A lane named twice counts once.
-- Answers: OK|DUPLICATE entry lanes | MISMATCH | STATUS word | ACTIVE lane dispatch | FULL
--       | BUSY lane | RESTARTED | GONE | NO_THREAD.
local keys, ages, due = KEYS[3], KEYS[4], KEYS[5]
local digest, body, payload = ARGV[1], ARGV[2], ARGV[3]
local max_queue, max_stream = tonumber(ARGV[4]), tonumber(ARGV[5])
local when_busy, wanted = ARGV[8], ARGV[9]
local found = redis.call('HMGET', state, 'boot', 'seq', 'outcome')
if found[1] ~= BOOT then return refusal(found[1]) end

local known = redis.call('HGET', keys, digest)
if known then
  local known_body, entry, lanes = string.match(known, '^(%S+) (%S+) ?(.*)$')
  if known_body ~= body then return {'MISMATCH'} end
  return {'DUPLICATE', entry, lanes}
end

-- As `status.thread_status` decides it.
local function status()
  for _, field in ipairs(redis.call('HKEYS', state)) do
    local kind = string.match(field, '^(%a+):')
    if kind == 'queue' or kind == 'run' then return 'running' end
  end
  if found[3] == 'orphaned' then return 'failed' end
  return ARGV[10] == 'idle' and (found[3] or 'idle') or 'open'
end

if wanted ~= '' then
  local word = status()
  if not string.find(' ' .. wanted .. ' ', ' ' .. word .. ' ', 1, true) then
    return {'STATUS', word}
  end
end
if redis.call('XLEN', stream) >= max_stream then return {'FULL'} end
local lanes, waiting = {}, {}
for i = 13, #ARGV, 4 do
  local lane = ARGV[i]
  local work = redis.call('HMGET', state, 'queue:' .. lane, 'run:' .. lane, 'cancel:' .. lane)
  local queue = words(work[1])
  local active = work[2] and string.match(work[2], '^[^,]+') or queue[1]
  if active and when_busy == 'reject' then return {'ACTIVE', lane, active} end
  if #queue >= max_queue and when_busy ~= 'write' then return {'BUSY', lane} end
  if not waiting[lane] then lanes[#lanes + 1] = lane end
  waiting[lane] = {queue = queue, has_run = work[2], active = active, cancel = work[3],
    attempts = ARGV[i + 1], policy = ARGV[i + 2], policy_json = ARGV[i + 3]}
end

local now = now_ms()
local seq = found[2] + 1
local entry, at = add(payload, seq)
local mark, outcome = entry, nil

-- The running turn shall end for this entry; asked once, whoever asks again.
local function take_its_place(lane, work)
  local reason = when_busy == 'rollback' and 'rolled_back' or 'interrupted'
  local deadline, before = string.match(work.cancel or '', '^(%d+),(.*)$')
  if not deadline then
    deadline = string.format('%d', now + ARGV[11])
    seq = seq + 1
    add_raw('{"type":"signal.dispatch.cancel_requested","dispatchId":"' .. work.active
      .. '","deadline":' .. deadline .. ',"reason":"' .. reason .. '"' .. ARGV[12] .. '}', seq)
    redis.call('HSET', state, 'cancel:' .. lane, deadline .. ',' .. reason)
    redis.call('ZADD', due, deadline, due_member(lane))
  end
  if when_busy == 'rollback' and before ~= 'rolled_back' then
    seq = seq + 1
    add_raw('{"type":"signal.dispatch.rolled_back","dispatchId":"' .. work.active
      .. '","entryId":"' .. string.match(work.active, '^[^.]+') .. '"' .. ARGV[12] .. '}', seq)
    redis.call('HSET', state, 'cancel:' .. lane, deadline .. ',rolled_back')
  end
end

-- The lane's first dispatch has begun its turn and waits for answers: there is no run to ask, so
-- it ends here.
local function end_waiting(lane, work)
  local reason = when_busy == 'rollback' and 'rolled_back' or 'interrupted'
  if reason == 'rolled_back' then
    seq = seq + 1
    add_raw('{"type":"signal.dispatch.rolled_back","dispatchId":"' .. work.active
      .. '","entryId":"' .. string.match(work.active, '^[^.]+') .. '"' .. ARGV[12] .. '}', seq)
  end
  seq = interrupt_calls(work.active, seq) + 1
  add_raw('{"type":"signal.dispatch.cancelled","dispatchId":"' .. work.active .. '","reason":"'
    .. reason .. '"' .. ARGV[12] .. '}', seq)
  forget(work.active)
  table.remove(work.queue, 1)
  seq = fall_through(lane, work.active, seq)
  work.active, outcome = work.queue[1], 'cancelled'
end

local born = {}
local function give_birth(lane, work)
  local dispatch = entry .. '.' .. #born
  born[#born + 1] = lane
  local is_first = work.active and (when_busy == 'interrupt' or when_busy == 'rollback')
  local steers = when_busy == 'steer' and work.has_run and not work.cancel
  seq = seq + 1
  mark, at = add('{"type":"signal.dispatch.queued","dispatchId":"' .. dispatch
    .. '","entryId":"' .. entry .. '","agentId":"' .. lane .. '"'
    .. (is_first and ',"first":true' or '')
    .. (steers and (',"steers":"' .. work.active .. '"') or '')
    .. ',' .. work.policy_json .. '}', seq)
  local is_head = is_first or #work.queue == 0
  table.insert(work.queue, is_first and 1 or #work.queue + 1, dispatch)
  redis.call('HSET', state, 'queue:' .. lane, table.concat(work.queue, ' '),
    'dispatch:' .. dispatch, lane .. ',0,' .. work.attempts .. ',0,' .. work.policy .. ',')
  if steers then
    local before, pair = redis.call('HGET', state, 'steer:' .. lane), dispatch .. ',' .. work.active
    redis.call('HSET', state, 'steer:' .. lane, before and (before .. ' ' .. pair) or pair)
  end
  if is_head and not work.has_run then
    redis.call('HSET', state, 'since:' .. lane, at)
    redis.call('ZADD', due, now + ARGV[6], due_member(lane))
  end
end

for _, lane in ipairs(lanes) do
  local work = waiting[lane]
  if work.active and when_busy == 'write' then
    seq = seq + 1
    add_raw('{"type":"signal.entry.written","entryId":"' .. entry .. '","agentId":"' .. lane
      .. '","activeDispatchId":"' .. work.active .. '"}', seq)
  else
    if work.active and (when_busy == 'interrupt' or when_busy == 'rollback') then
      if work.has_run then
        take_its_place(lane, work)
      elseif #asks_of(work.active) > 0 then
        end_waiting(lane, work)
      end
    end
    give_birth(lane, work)
  end
end
redis.call('HSET', state, 'seq', seq, 'mark', mark)
if outcome then
  redis.call('HSET', state, 'outcome', outcome)
  mark_dirty(KEYS[6])
elseif found[3] then
  redis.call('HDEL', state, 'outcome')
  if #born == 0 then mark_dirty(KEYS[6]) end
end

local ttl = tonumber(ARGV[7])
local joined = table.concat(born, ' ')
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
