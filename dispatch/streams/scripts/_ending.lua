-- Shared by finish, release, retry, expire and revalidate: how a run leaves its lane.
local RUN_FIELDS = {'run:', 'n:', 'at:', 'lease:', 'hard:', 'worker:', 'started:', 'effects:',
  'cancel:', 'beat:', 'warned:'}

local function clear_run(lane)
  local fields = {}
  for i, name in ipairs(RUN_FIELDS) do fields[i] = name .. lane end
  redis.call('HDEL', state, unpack(fields))
end

-- The lane is free: its next dispatch is due soon, or nobody needs to look at it any more.
local function free_lane(due, lane, since, look_at)
  if redis.call('HEXISTS', state, 'queue:' .. lane) == 1 then
    redis.call('HSET', state, 'since:' .. lane, since)
    redis.call('ZADD', due, look_at, due_member(lane))
    return 1
  end
  redis.call('ZREM', due, due_member(lane))
  return 0
end

-- The run is over, its dispatch is not: it is first in its lane again.
local function requeue(lane, dispatch, record, since)
  local queue = redis.call('HGET', state, 'queue:' .. lane)
  clear_run(lane)
  redis.call('HSET', state, 'since:' .. lane, since,
    'queue:' .. lane, queue and (dispatch .. ' ' .. queue) or dispatch,
    'dispatch:' .. dispatch, record_text(record))
end

-- The run is lost and its dispatch will be tried again. more: further fields of the signal.
-- Returns the new mark.
local function lose(due, lane, dispatch, run, record, seq, more)
  local limits = limits_of(record)
  local wait = math.min(limits.backoff * 2 ^ (record.attempt - 1), limits.max_backoff)
  record.not_before = now_ms() + wait
  seq = interrupt_calls(dispatch, seq, true)
  local mark, at = add('{"type":"signal.dispatch.run_lost","dispatchId":"' .. dispatch
    .. '","runId":"' .. run .. '","attempt":' .. record.attempt
    .. ',"notBefore":' .. string.format('%d', record.not_before) .. more .. '}', seq + 1)
  requeue(lane, dispatch, record, at)
  redis.call('HSET', state, 'seq', seq + 1, 'mark', mark)
  redis.call('ZADD', due, string.format('%d', record.not_before), due_member(lane))
  return mark
end

-- The record itself ends a dispatch that nobody else ends, and tells its thread.
-- Returns mark, its milliseconds, seq.
local function fail(lane, dispatch, run, reason, seq)
  local by_run = run and (',"runId":"' .. run .. '"') or ''
  local head = '"dispatchId":"' .. dispatch .. '","reason":"' .. reason .. '"' .. by_run .. '}'
  seq = interrupt_calls(dispatch, seq)
  local _, at = add('{"type":"signal.dispatch.failed",' .. head, seq + 1)
  local mark = add('{"type":"signal.thread.pi_session_orphaned",' .. head, seq + 2)
  forget(dispatch)
  redis.call('HSET', state, 'seq', seq + 2, 'mark', mark, 'outcome', 'orphaned')
  return mark, at, fall_through(lane, dispatch, seq + 2)
end
