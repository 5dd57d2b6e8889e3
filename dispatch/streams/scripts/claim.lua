-- claim: queued -> running. Promise: one open run per lane; the fence moves here, with `started`,
-- not with the new holder's first append. The same run id asked twice is told the same.
-- KEYS: stream, state, due, runs (the worker's lanes). ARGV: lane, run id, worker id, lease ms,
-- hard limit ms. Answers: OK dispatch attempt started entry-payload | BUSY | EXPIRED | NONE |
-- WAIT ms | GONE | NO_THREAD.
local due, runs = KEYS[3], KEYS[4]
local lane, run, worker = ARGV[1], ARGV[2], ARGV[3]
local lease, hard = tonumber(ARGV[4]), tonumber(ARGV[5])
local found = redis.call('HMGET', state, 'open', 'seq', 'queue:' .. lane, 'run:' .. lane,
  'at:' .. lane, 'lease:' .. lane, 'hard:' .. lane, 'cancel:' .. lane, 'started:' .. lane)
if not found[1] then return refusal() end
local now = now_ms()

local function entry_payload(dispatch)
  local ms, n = string.match(dispatch, '^0*(%d+)_0*(%d+)%.')
  local rows = redis.call('XRANGE', stream, ms .. '-' .. n, ms .. '-' .. n)
  return rows[1] and rows[1][2][2] or ''
end

if found[4] then
  local dispatch, attempt, holder = string.match(found[4], '^([^,]+),([^,]+),(.+)$')
  if holder == run then
    return {'OK', dispatch, attempt, found[9], entry_payload(dispatch)}
  end
  local over = math.min(found[5] + found[6], tonumber(found[7]), tonumber(found[8] or found[7]))
  if now >= over then return {'EXPIRED'} end
  return {'BUSY'}
end
if not found[3] then
  redis.call('ZREM', due, due_member(lane))
  return {'NONE'}
end
local dispatch, rest = string.match(found[3], '^(%S+) ?(.*)$')
local record = redis.call('HGET', state, 'dispatch:' .. dispatch)
local attempt, attempts, not_before = string.match(record, '^[^,]+,([^,]+),([^,]+),(.+)$')
if now < tonumber(not_before) then return {'WAIT', not_before - now} end

attempt = attempt + 1
local seq = found[2] + 1
local limit = now + hard
local started, at = add('{"type":"signal.dispatch.started","dispatchId":"' .. dispatch
  .. '","agentId":"' .. lane .. '","attempt":' .. attempt .. ',"runId":"' .. run
  .. '","workerId":"' .. worker .. '","leaseMs":' .. ARGV[4]
  .. ',"hardMs":' .. string.format('%d', limit) .. '}', seq)
redis.call('HSET', state, 'seq', seq, 'mark', started,
  'run:' .. lane, dispatch .. ',' .. attempt .. ',' .. run, 'n:' .. lane, 0,
  'at:' .. lane, at, 'lease:' .. lane, ARGV[4], 'hard:' .. lane, limit,
  'worker:' .. lane, worker, 'started:' .. lane, started,
  'dispatch:' .. dispatch, lane .. ',' .. attempt .. ',' .. attempts .. ',0')
redis.call('HDEL', state, 'since:' .. lane)
if rest == '' then
  redis.call('HDEL', state, 'queue:' .. lane)
else
  redis.call('HSET', state, 'queue:' .. lane, rest)
end
redis.call('ZADD', due, math.min(now + lease, limit), due_member(lane))
redis.call('SADD', runs, due_member(lane))
tell()
return {'OK', dispatch, tostring(attempt), started, entry_payload(dispatch)}
