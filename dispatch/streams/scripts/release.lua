-- release: running -> queued, by the holder. Promise: the dispatch is first in its lane again and
-- the attempt is not counted. Only what did nothing visible since its checkpoint, or may do it
-- again, and was not asked to end.
-- KEYS: stream, state, due, runs. ARGV: lane, fence. Answers: OK released | EFFECTS | CANCELLING
-- | FENCED | RESTARTED | GONE | NO_THREAD.
local due, runs = KEYS[3], KEYS[4]
local lane = ARGV[1]
local found = redis.call('HMGET', state, 'run:' .. lane, 'effects:' .. lane, 'cancel:' .. lane,
  'seq', 'boot')
if found[1] ~= ARGV[2] or found[5] ~= BOOT then return refusal(found[5]) end
if found[3] then return {'CANCELLING'} end
local dispatch, run = string.match(ARGV[2], '^([^,]+),[^,]+,(.+)$')
local record = record_of(dispatch)
if found[2] and not limits_of(record).repeatable then return {'EFFECTS'} end
local seq = interrupt_calls(dispatch, tonumber(found[4]), true) + 1
local released, at = add('{"type":"signal.dispatch.released","dispatchId":"' .. dispatch
  .. '","runId":"' .. run .. '"}', seq)
record.attempt = record.attempt - 1
requeue(lane, dispatch, record, at)
redis.call('HSET', state, 'seq', seq, 'mark', released)
free_lane(due, lane, at, now_ms())
redis.call('SREM', runs, due_member(lane))
tell()
return {'OK', released}
