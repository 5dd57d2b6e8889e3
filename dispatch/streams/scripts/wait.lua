-- wait: running -> queued, by the holder, until what it asked is answered. Promise: no attempt is
-- counted, no worker is held, and whoever answers last makes the dispatch due at once. What it
-- asked keeps its tool calls open; the others are interrupted. Only what did nothing visible since
-- its checkpoint, or may do it again.
-- KEYS: stream, state, due, runs. ARGV: lane, fence, ms until somebody looks at what it delegated.
-- Answers: OK waiting | ANSWERED | EFFECTS | CANCELLING | FENCED | RESTARTED | GONE | NO_THREAD.
local due, runs = KEYS[3], KEYS[4]
local lane = ARGV[1]
local found = redis.call('HMGET', state, 'run:' .. lane, 'cancel:' .. lane, 'seq', 'boot',
  'effects:' .. lane)
if found[1] ~= ARGV[2] or found[4] ~= BOOT then return refusal(found[4]) end
if found[2] then return {'CANCELLING'} end
local dispatch, run = string.match(ARGV[2], '^([^,]+),[^,]+,(.+)$')
local asks = asks_of(dispatch)
if #asks == 0 then return {'ANSWERED'} end
local record = record_of(dispatch)
if found[5] and not limits_of(record).repeatable then return {'EFFECTS'} end
local seq = interrupt_calls(dispatch, tonumber(found[3]), true) + 1
record.attempt = record.attempt - 1
for _, ask in ipairs(asks) do record.not_before = math.max(record.not_before, ask.deadline) end
local waiting, at = add('{"type":"signal.dispatch.waiting","dispatchId":"' .. dispatch
  .. '","runId":"' .. run .. '","until":' .. string.format('%d', record.not_before) .. '}', seq)
requeue(lane, dispatch, record, at)
redis.call('HSET', state, 'seq', seq, 'mark', waiting)
redis.call('ZADD', due, string.format('%d', (next_look(asks, now_ms() + ARGV[3]))),
  due_member(lane))
redis.call('SREM', runs, due_member(lane))
tell()
return {'OK', waiting}
