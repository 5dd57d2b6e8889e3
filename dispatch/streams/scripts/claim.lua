-- claim: queued -> running. Promise: one open run per lane; the fence moves here, with `started`,
-- not with the new holder's first append. The same run id asked twice is told the same.
-- KEYS: stream, state, due, runs (the worker's lanes). ARGV: lane, run id, worker id, lease ms.
-- Answers: OK dispatch attempt started entry-payload checkpoint-payload | BUSY | EXPIRED | NONE
-- | WAIT ms | RESTARTED | GONE | NO_THREAD.
local due, runs = KEYS[3], KEYS[4]
local lane, run, worker = ARGV[1], ARGV[2], ARGV[3]
local lease = tonumber(ARGV[4])
local found = redis.call('HMGET', state, 'boot', 'seq', 'queue:' .. lane, 'run:' .. lane,
  'at:' .. lane, 'lease:' .. lane, 'hard:' .. lane, 'cancel:' .. lane, 'started:' .. lane,
  'beat:' .. lane)
if found[1] ~= BOOT then return refusal(found[1]) end
local now = now_ms()

local function payload_of(entry)
  local ms, n = string.match(entry, '^0*(%d+)_0*(%d+)')
  if not ms then return '' end
  local rows = redis.call('XRANGE', stream, ms .. '-' .. n, ms .. '-' .. n)
  return rows[1] and rows[1][2][2] or ''
end

if found[4] then
  local dispatch, attempt, holder = string.match(found[4], '^([^,]+),([^,]+),(.+)$')
  if holder == run then
    local record = record_of(dispatch)
    return {'OK', dispatch, attempt, found[9], payload_of(dispatch), payload_of(record.checkpoint)}
  end
  local alive = math.max(found[5], tonumber(string.match(found[10] or '0', '^%d+')))
  local deadline = string.match(found[8] or found[7], '^%d+')
  if now >= math.min(alive + found[6], tonumber(found[7]), tonumber(deadline)) then
    return {'EXPIRED'}
  end
  return {'BUSY'}
end
if not found[3] then
  redis.call('ZREM', due, due_member(lane))
  return {'NONE'}
end
local dispatch, rest = string.match(found[3], '^(%S+) ?(.*)$')
local record = record_of(dispatch)
if now < record.not_before then return {'WAIT', record.not_before - now} end

record.attempt = record.attempt + 1
record.not_before = 0
local seq = found[2] + 1
local limits = limits_of(record)
local limit = now + limits.timeout
local from = record.checkpoint ~= '' and (',"checkpointId":"' .. record.checkpoint .. '"') or ''
local started, at = add('{"type":"signal.dispatch.started","dispatchId":"' .. dispatch
  .. '","agentId":"' .. lane .. '","attempt":' .. record.attempt .. ',"runId":"' .. run
  .. '","workerId":"' .. worker .. '","leaseMs":' .. ARGV[4]
  .. ',"hardMs":' .. string.format('%d', limit) .. from .. '}', seq)
redis.call('HSET', state, 'seq', seq, 'mark', started,
  'run:' .. lane, dispatch .. ',' .. record.attempt .. ',' .. run, 'n:' .. lane, 0,
  'at:' .. lane, at, 'lease:' .. lane, ARGV[4], 'hard:' .. lane, string.format('%d', limit),
  'worker:' .. lane, worker, 'started:' .. lane, started,
  'dispatch:' .. dispatch, record_text(record))
redis.call('HDEL', state, 'since:' .. lane)
if rest == '' then
  redis.call('HDEL', state, 'queue:' .. lane)
else
  redis.call('HSET', state, 'queue:' .. lane, rest)
end
local look = math.min(now + lease, limit)
if limits.warn > 0 then look = math.min(look, now + limits.warn) end
if limits.progress > 0 then look = math.min(look, now + limits.progress) end
redis.call('ZADD', due, string.format('%d', look), due_member(lane))
redis.call('SADD', runs, due_member(lane))
tell()
return {'OK', dispatch, tostring(record.attempt), started, payload_of(dispatch),
  payload_of(record.checkpoint)}
