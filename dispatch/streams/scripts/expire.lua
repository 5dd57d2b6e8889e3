-- expire: look at one lane and do what its clocks demand. Promise: nobody whose lease lives is
-- reaped; a run without visible effect is queued again while attempts are left; else it fails,
-- once, and its thread is told why. Safe at any time, by anybody, any number of times.
-- KEYS: stream, state, due. ARGV: lane, run id known to be dead (or ''), first backoff ms, max
-- backoff ms, start timeout ms, due after ms.
-- Answers: LIVE | HINT (waits for a worker) | WAIT (backing off) | NONE | LOST mark | FAILED mark |
-- CANCELLED mark | GONE | NO_THREAD.
local due = KEYS[3]
local lane, dead = ARGV[1], ARGV[2]
local found = redis.call('HMGET', state, 'open', 'seq', 'queue:' .. lane, 'since:' .. lane,
  'run:' .. lane, 'at:' .. lane, 'lease:' .. lane, 'hard:' .. lane, 'cancel:' .. lane,
  'effects:' .. lane)
if not found[1] then
  redis.call('ZREM', due, due_member(lane))
  return refusal()
end
local now = now_ms()
local seq = tonumber(found[2])

local function fail(dispatch, run, reason)
  local by_run = run and (',"runId":"' .. run .. '"') or ''
  local head = '"dispatchId":"' .. dispatch .. '","reason":"' .. reason .. '"' .. by_run .. '}'
  local _, at = add('{"type":"signal.dispatch.failed",' .. head, seq + 1)
  local mark = add('{"type":"signal.thread.pi_session_orphaned",' .. head, seq + 2)
  redis.call('HDEL', state, 'dispatch:' .. dispatch)
  redis.call('HSET', state, 'seq', seq + 2, 'mark', mark, 'outcome', 'orphaned')
  return mark, at
end

if not found[5] then
  if not found[3] then
    redis.call('ZREM', due, due_member(lane))
    return {'NONE'}
  end
  local dispatch, rest = string.match(found[3], '^(%S+) ?(.*)$')
  local not_before = tonumber(string.match(redis.call('HGET', state, 'dispatch:' .. dispatch), '[^,]+$'))
  if now < not_before then
    redis.call('ZADD', due, not_before, due_member(lane))
    return {'WAIT'}
  end
  local waited = now - math.max(tonumber(found[4]), not_before)
  if waited < tonumber(ARGV[5]) then
    -- Less and less often: behind busy workers each hint would only lie in the queue.
    local pause = math.min(math.max(tonumber(ARGV[6]), waited), 12 * ARGV[6])
    redis.call('ZADD', due, now + pause, due_member(lane))
    return {'HINT'}
  end
  if rest == '' then
    redis.call('HDEL', state, 'queue:' .. lane, 'since:' .. lane)
  else
    redis.call('HSET', state, 'queue:' .. lane, rest)
  end
  local mark, at = fail(dispatch, nil, 'never_started')
  free_lane(due, lane, at, now)
  tell()
  return {'FAILED', mark}
end

local dispatch, attempt, run = string.match(found[5], '^([^,]+),([^,]+),(.+)$')
local over = math.min(found[6] + found[7], tonumber(found[8]), tonumber(found[9] or found[8]))
if now < over and dead ~= run then
  redis.call('ZADD', due, over, due_member(lane))
  return {'LIVE'}
end
if found[9] then
  local mark, at = add('{"type":"signal.dispatch.cancelled","dispatchId":"' .. dispatch
    .. '","reason":"cancel_grace","runId":"' .. run .. '"}', seq + 1)
  clear_run(lane)
  redis.call('HDEL', state, 'dispatch:' .. dispatch)
  redis.call('HSET', state, 'seq', seq + 1, 'mark', mark, 'outcome', 'cancelled')
  free_lane(due, lane, at, now)
  tell()
  return {'CANCELLED', mark}
end
local attempts = string.match(redis.call('HGET', state, 'dispatch:' .. dispatch), '^[^,]+,[^,]+,([^,]+),')
if not found[10] and tonumber(attempt) < tonumber(attempts) then
  local not_before = now + math.min(ARGV[3] * 2 ^ (attempt - 1), tonumber(ARGV[4]))
  local mark, at = add('{"type":"signal.dispatch.run_lost","dispatchId":"' .. dispatch
    .. '","runId":"' .. run .. '","attempt":' .. attempt
    .. ',"notBefore":' .. string.format('%d', not_before) .. '}', seq + 1)
  clear_run(lane)
  redis.call('HSET', state, 'seq', seq + 1, 'mark', mark, 'since:' .. lane, at,
    'queue:' .. lane, found[3] and (dispatch .. ' ' .. found[3]) or dispatch,
    'dispatch:' .. dispatch,
    lane .. ',' .. attempt .. ',' .. attempts .. ',' .. string.format('%d', not_before))
  redis.call('ZADD', due, not_before, due_member(lane))
  tell()
  return {'LOST', mark}
end
local reason = 'attempts_exhausted'
if found[10] then reason = now >= tonumber(found[8]) and 'run_timeout' or 'orphaned' end
clear_run(lane)
local mark, at = fail(dispatch, run, reason)
free_lane(due, lane, at, now)
tell()
return {'FAILED', mark}
