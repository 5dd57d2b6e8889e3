-- release: running -> queued, by the holder, before it did anything visible. Promise: the dispatch
-- is first in its lane again and the attempt is not counted.
-- KEYS: stream, state, due, runs. ARGV: lane, fence. Answers: OK released | EFFECTS | FENCED | GONE |
-- NO_THREAD.
local due, runs = KEYS[3], KEYS[4]
local lane = ARGV[1]
local found = redis.call('HMGET', state, 'run:' .. lane, 'effects:' .. lane, 'cancel:' .. lane,
  'seq', 'queue:' .. lane)
if found[1] ~= ARGV[2] then return refusal() end
if found[2] or found[3] then return {'EFFECTS'} end
local dispatch, attempt, run = string.match(ARGV[2], '^([^,]+),([^,]+),(.+)$')
local record = redis.call('HGET', state, 'dispatch:' .. dispatch)
local attempts = string.match(record, '^[^,]+,[^,]+,([^,]+),')
local seq = found[4] + 1
local released, at = add('{"type":"signal.dispatch.released","dispatchId":"' .. dispatch
  .. '","runId":"' .. run .. '"}', seq)
clear_run(lane)
redis.call('HSET', state, 'seq', seq, 'mark', released,
  'queue:' .. lane, found[5] and (dispatch .. ' ' .. found[5]) or dispatch,
  'dispatch:' .. dispatch, lane .. ',' .. (attempt - 1) .. ',' .. attempts .. ',0')
free_lane(due, lane, at, now_ms())
redis.call('SREM', runs, due_member(lane))
tell()
return {'OK', released}
