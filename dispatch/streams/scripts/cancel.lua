-- cancel: a queued dispatch ends now; a running one is asked to end and has a grace. Promise: what
-- this answers stands on the stream; a run that is asked twice is told once.
-- KEYS: stream, state, due, dirty. ARGV: dispatch, grace ms, who and why (`,"by":…,"message":…`), reason,
-- `queued` to withdraw only what has not started.
-- Answers: CANCELLED mark | REQUESTED | RUNNING | NONE | RESTARTED | GONE | NO_THREAD.
local due = KEYS[3]
local dispatch = ARGV[1]
local found = redis.call('HMGET', state, 'boot', 'seq', 'dispatch:' .. dispatch)
if found[1] ~= BOOT then return refusal(found[1]) end
if not found[3] then return {'NONE'} end
local lane = string.match(found[3], '^[^,]+')
local seq = found[2] + 1
local now = now_ms()
local work = redis.call('HMGET', state, 'run:' .. lane, 'cancel:' .. lane, 'queue:' .. lane,
  'steer:' .. lane)
if work[1] and string.match(work[1], '^[^,]+') == dispatch then
  if ARGV[5] == 'queued' then return {'RUNNING'} end
  if work[2] then return {'REQUESTED'} end
  local deadline = string.format('%d', now + ARGV[2])
  add_raw('{"type":"signal.dispatch.cancel_requested","dispatchId":"' .. dispatch
    .. '","deadline":' .. deadline .. ',"reason":"' .. ARGV[4] .. '"' .. ARGV[3] .. '}', seq)
  redis.call('HSET', state, 'seq', seq, 'cancel:' .. lane, deadline .. ',' .. ARGV[4])
  redis.call('ZADD', due, deadline, due_member(lane))
  tell()
  return {'REQUESTED'}
end
local left, was_first = {}, false
for i, queued in ipairs(words(work[3])) do
  if queued == dispatch then was_first = i == 1 else left[#left + 1] = queued end
end
local reason = ARGV[5] == 'queued' and 'withdrawn' or 'before_start'
seq = interrupt_calls(dispatch, seq - 1) + 1
local mark, at = add('{"type":"signal.dispatch.cancelled","dispatchId":"' .. dispatch
  .. '","reason":"' .. reason .. '"' .. ARGV[3] .. '}', seq)
forget(dispatch)
redis.call('HSET', state, 'seq', seq, 'mark', mark, 'outcome', 'cancelled')
set_words('queue:' .. lane, left)
if work[4] then
  local others = {}
  for _, pair in ipairs(words(work[4])) do
    if string.match(pair, '^[^,]+') ~= dispatch then others[#others + 1] = pair end
  end
  set_words('steer:' .. lane, others)
end
fall_through(lane, dispatch, seq)
if not work[1] then
  if #left == 0 then
    redis.call('HDEL', state, 'since:' .. lane)
    redis.call('ZREM', due, due_member(lane))
  elseif was_first then
    redis.call('HSET', state, 'since:' .. lane, at)
    redis.call('ZADD', due, now, due_member(lane))
  end
end
mark_dirty(KEYS[4])
tell()
return {'CANCELLED', mark}
