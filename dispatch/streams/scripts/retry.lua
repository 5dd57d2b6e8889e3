-- retry: running -> queued, by the holder, whose agent broke down. Promise: the attempt counts and
-- the next one waits; only what did nothing visible since its checkpoint, or may do it again, has
-- attempts left and was not asked to end.
-- KEYS: stream, state, due, runs. ARGV: lane, fence, message (`,"message":…`). Answers: OK lost
-- | EXHAUSTED | CANCELLING | FENCED | RESTARTED | GONE | NO_THREAD.
local due, runs = KEYS[3], KEYS[4]
local lane = ARGV[1]
local found = redis.call('HMGET', state, 'run:' .. lane, 'effects:' .. lane, 'cancel:' .. lane,
  'seq', 'boot')
if found[1] ~= ARGV[2] or found[5] ~= BOOT then return refusal(found[5]) end
if found[3] then return {'CANCELLING'} end
local dispatch, run = string.match(ARGV[2], '^([^,]+),[^,]+,(.+)$')
local record = record_of(dispatch)
local is_spoiled = found[2] and not limits_of(record).repeatable
if is_spoiled or record.attempt >= record.max then return {'EXHAUSTED'} end
local more = ',"reason":"error"' .. (found[2] and ',"effects":true' or '') .. ARGV[3]
local lost = lose(due, lane, dispatch, run, record, tonumber(found[4]), more)
redis.call('SREM', runs, due_member(lane))
tell()
return {'OK', lost}
