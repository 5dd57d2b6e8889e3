-- answer: somebody answers what a dispatch asked, or its time is over. Promise: each ask has one
-- answer; the last one makes a waiting dispatch due at once.
-- KEYS: stream, state, due. ARGV: dispatch, ask id, payload, `over` to be taken only after the
-- ask's deadline, due after ms.
-- Answers: OK id lane (to be hinted, '' if a run is under way) | EARLY ms | NONE | RESTARTED | GONE
-- | NO_THREAD.
local due = KEYS[3]
local dispatch = ARGV[1]
local found = redis.call('HMGET', state, 'boot', 'seq', 'asks:' .. dispatch)
if found[1] ~= BOOT then return refusal(found[1]) end
local now, asks = now_ms(), asks_of(dispatch)
local asked
for i, ask in ipairs(asks) do
  if ask.id == ARGV[2] then asked = i end
end
if not asked then return {'NONE'} end
if ARGV[4] == 'over' and now < asks[asked].deadline then
  return {'EARLY', asks[asked].deadline - now}
end
local seq = found[2] + 1
local id = add(ARGV[3], seq)
keep_answer(dispatch, asks[asked])
table.remove(asks, asked)
set_asks(dispatch, asks)
local record = record_of(dispatch)
local held = redis.call('HGET', state, 'run:' .. record.lane)
if held and string.match(held, '^[^,]+') == dispatch or #asks > 0 then
  redis.call('HSET', state, 'seq', seq)
  tell()
  return {'OK', id, ''}
end
resume(record.lane, dispatch, record, seq + 1)
if not held then redis.call('ZADD', due, now + ARGV[5], due_member(record.lane)) end
tell()
return {'OK', id, held and '' or record.lane}
