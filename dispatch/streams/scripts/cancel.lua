-- cancel: end a queued dispatch at once; ask a running one to end within the grace. Promise: what
-- was answered is on the stream; a cancelled dispatch never starts.
-- KEYS: stream, state, due. ARGV: dispatch, grace ms, who and why as JSON members
-- `,"by":…,"message":…` or ''. Answers: CANCELLED mark | REQUESTED | NONE (ended or unknown) | GONE |
-- NO_THREAD.
local due = KEYS[3]
local dispatch = ARGV[1]
local found = redis.call('HMGET', state, 'open', 'seq', 'dispatch:' .. dispatch)
if not found[1] then return refusal() end
if not found[3] then return {'NONE'} end
local lane = string.match(found[3], '^[^,]+')
local seq = found[2] + 1
local now = now_ms()
local work = redis.call('HMGET', state, 'run:' .. lane, 'cancel:' .. lane, 'queue:' .. lane)
if work[1] and string.match(work[1], '^[^,]+') == dispatch then
  if work[2] then return {'REQUESTED'} end
  local deadline = string.format('%d', now + ARGV[2])
  add('{"type":"signal.dispatch.cancel_requested","dispatchId":"' .. dispatch
    .. '","deadline":' .. deadline .. ARGV[3] .. '}', seq)
  redis.call('HSET', state, 'seq', seq, 'cancel:' .. lane, deadline)
  redis.call('ZADD', due, deadline, due_member(lane))
  tell()
  return {'REQUESTED'}
end
local left, was_first, first = {}, false, true
for queued in string.gmatch(work[3], '%S+') do
  if queued == dispatch then was_first = first else left[#left + 1] = queued end
  first = false
end
local mark, at = add('{"type":"signal.dispatch.cancelled","dispatchId":"' .. dispatch
  .. '","reason":"before_start"' .. ARGV[3] .. '}', seq)
redis.call('HDEL', state, 'dispatch:' .. dispatch)
redis.call('HSET', state, 'seq', seq, 'mark', mark, 'outcome', 'cancelled')
if #left > 0 then
  redis.call('HSET', state, 'queue:' .. lane, table.concat(left, ' '))
else
  redis.call('HDEL', state, 'queue:' .. lane)
end
if not work[1] then
  if #left == 0 then
    redis.call('HDEL', state, 'since:' .. lane)
    redis.call('ZREM', due, due_member(lane))
  elseif was_first then
    redis.call('HSET', state, 'since:' .. lane, at)
    redis.call('ZADD', due, now, due_member(lane))
  end
end
tell()
return {'CANCELLED', mark}
