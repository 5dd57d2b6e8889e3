-- renew: a silent run says that it lives. Promise: only the holder renews; of a run's heartbeats
-- only the newest stays on the stream; it is a sign of life, not of progress.
-- ARGV: lane, fence. Answers: OK id cancel | FENCED | RESTARTED | GONE | NO_THREAD.
local lane = ARGV[1]
local found = redis.call('HMGET', state, 'run:' .. lane, 'beat:' .. lane, 'cancel:' .. lane,
  'boot')
if found[1] ~= ARGV[2] or found[4] ~= BOOT then return refusal(found[4]) end
local dispatch, run = string.match(ARGV[2], '^([^,]+),[^,]+,(.+)$')
local id = add_raw('{"type":"signal.dispatch.heartbeat","dispatchId":"' .. dispatch
  .. '","runId":"' .. run .. '"}', nil, run .. ':0')
redis.call('HSET', state, 'beat:' .. lane, id)
if found[2] then redis.call('XDEL', stream, found[2]) end
tell()
return {'OK', id, found[3] or ''}
