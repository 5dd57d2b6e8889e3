-- expire: look at one lane and do what its clocks demand. Promise: nobody whose lease lives is
-- reaped; a run without visible effect is queued again while attempts are left; else it fails,
-- once, and its thread is told why. A run that lives but makes no progress is warned, then asked to
-- end, then failed. Safe at any time, by anybody, any number of times.
-- KEYS: stream, state, due, dirty. ARGV: lane, run id whose worker was found dead (or ''), start
-- timeout ms, due after ms, cancel grace ms, worker dead ms.
-- Answers: LIVE | WARNED | STOPPING | HINT (waits for a worker) | WAIT (backing off, or for an
-- answer) | DELEGATING (its first waits for other agents: have they ended?) | NONE
-- | LOST mark | FAILED mark | CANCELLED mark | RESTARTED | GONE | NO_THREAD.
local due = KEYS[3]
local lane = ARGV[1]
local found = redis.call('HMGET', state, 'boot', 'seq', 'queue:' .. lane, 'since:' .. lane,
  'run:' .. lane, 'at:' .. lane, 'lease:' .. lane, 'hard:' .. lane, 'cancel:' .. lane,
  'effects:' .. lane, 'beat:' .. lane, 'warned:' .. lane)
if found[1] ~= BOOT then
  local why = refusal(found[1])
  if why[1] ~= 'RESTARTED' then redis.call('ZREM', due, due_member(lane)) end
  return why
end
local now = now_ms()
local seq = tonumber(found[2])

local function look_again(at)
  redis.call('ZADD', due, string.format('%d', at), due_member(lane))
end

-- Less and less often: behind busy workers each hint would only lie in the queue.
local function later(waited)
  return now + math.min(math.max(tonumber(ARGV[4]), waited), 12 * ARGV[4])
end

if not found[5] then
  if not found[3] then
    redis.call('ZREM', due, due_member(lane))
    return {'NONE'}
  end
  local dispatch, rest = string.match(found[3], '^(%S+) ?(.*)$')
  local record, asks = record_of(dispatch), nil
  asks, seq = expire_asks(dispatch, seq, now)
  if #asks > 0 then
    redis.call('HSET', state, 'seq', seq)
    local look_at, delegates = next_look(asks, later(now - tonumber(found[4])))
    look_again(look_at)
    if #frames > 0 then tell() end
    return {delegates and 'DELEGATING' or 'WAIT'}
  end
  if seq > tonumber(found[2]) then
    seq = seq + 1
    resume(lane, dispatch, record, seq)
    tell()
    look_again(now + ARGV[4])
    return {'HINT'}
  end
  local not_before = record.not_before
  if now < not_before then
    look_again(not_before)
    return {'WAIT'}
  end
  local waited = now - math.max(tonumber(found[4]), not_before)
  if waited < tonumber(ARGV[3]) then
    look_again(later(waited))
    return {'HINT'}
  end
  set_words('queue:' .. lane, words(rest))
  if rest == '' then redis.call('HDEL', state, 'since:' .. lane) end
  local mark, at = fail(lane, dispatch, nil, 'never_started', seq)
  free_lane(due, lane, at, now)
  mark_dirty(KEYS[4])
  tell()
  return {'FAILED', mark}
end

local dispatch, attempt, run = string.match(found[5], '^([^,]+),([^,]+),(.+)$')
local record = record_of(dispatch)
local limits = limits_of(record)
local spoke, hard = tonumber(found[6]), tonumber(found[8])
local alive = math.max(spoke, tonumber(string.match(found[11] or '0', '^%d+')))
-- That was read a while ago: a run's words are signs of life too.
local is_dead = run == ARGV[2] and now - alive >= tonumber(ARGV[6])
local deadline, reason = string.match(found[9] or '', '^(%d+),?(.*)$')
local over = math.min(alive + found[7], hard, tonumber(deadline or hard))
if now < over and not is_dead then
  if deadline then
    look_again(over)
    return {'LIVE'}
  end
  -- A run that waits for somebody's answer is not mute.
  local is_asking = redis.call('HEXISTS', state, 'asks:' .. dispatch) == 1
  local stop_at = not is_asking and limits.progress > 0 and spoke + limits.progress
  if stop_at and now >= stop_at then
    deadline = string.format('%d', now + ARGV[5])
    add_raw('{"type":"signal.dispatch.cancel_requested","dispatchId":"' .. dispatch
      .. '","deadline":' .. deadline .. ',"reason":"no_progress"}', seq + 1)
    redis.call('HSET', state, 'seq', seq + 1, 'cancel:' .. lane, deadline .. ',no_progress')
    look_again(math.min(over, tonumber(deadline)))
    tell()
    return {'STOPPING'}
  end
  local word = 'LIVE'
  local warn_at = not is_asking and limits.warn > 0 and found[12] ~= found[6] and spoke + limits.warn
  if warn_at and now >= warn_at then
    local till = stop_at and (',"deadline":' .. string.format('%d', stop_at)) or ''
    add_raw('{"type":"signal.dispatch.no_progress","dispatchId":"' .. dispatch .. '","runId":"'
      .. run .. '","sinceMs":' .. found[6] .. till .. '}', seq + 1)
    redis.call('HSET', state, 'seq', seq + 1, 'warned:' .. lane, found[6])
    tell()
    word, warn_at = 'WARNED', false
  end
  look_again(math.min(over, warn_at or over, stop_at or over))
  return {word}
end
if deadline and reason ~= 'no_progress' then
  seq = interrupt_calls(dispatch, seq)
  local mark, at = add('{"type":"signal.dispatch.cancelled","dispatchId":"' .. dispatch
    .. '","reason":"cancel_grace","runId":"' .. run .. '"}', seq + 1)
  clear_run(lane)
  forget(dispatch)
  redis.call('HSET', state, 'seq', seq + 1, 'mark', mark, 'outcome', 'cancelled')
  fall_through(lane, dispatch, seq + 1)
  free_lane(due, lane, at, now)
  mark_dirty(KEYS[4])
  tell()
  return {'CANCELLED', mark}
end
local is_silent = now >= alive + found[7] or is_dead
local may_repeat = not found[10] or limits.repeatable
if is_silent and not deadline and may_repeat and record.attempt < record.max then
  local more = ',"reason":"' .. (is_dead and 'worker_dead' or 'silent') .. '"'
    .. (found[10] and ',"effects":true' or '')
  local mark = lose(due, lane, dispatch, run, record, seq, more)
  tell()
  return {'LOST', mark}
end
local why = 'attempts_exhausted'
if deadline then
  why = 'no_progress'
elseif not is_silent then
  why = 'run_timeout'
elseif not may_repeat then
  why = 'orphaned'
end
clear_run(lane)
local mark, at = fail(lane, dispatch, run, why, seq)
free_lane(due, lane, at, now)
mark_dirty(KEYS[4])
tell()
return {'FAILED', mark}
