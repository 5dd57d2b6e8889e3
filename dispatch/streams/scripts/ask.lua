-- ask: a run asks people, a program of theirs, or another agent. Promise: the question stands on
-- the stream once, with the time until which it may be answered.
-- KEYS: stream, state. ARGV: lane, fence, n, ask id, kind, wait ms, default, tool call (made safe),
-- type of the signal, the rest of it (`,"permissionId":…}`).
-- Answers: OK id cancel | DUPLICATE | GAP last | FENCED | RESTARTED | GONE | NO_THREAD.
local lane = ARGV[1]
local found = redis.call('HMGET', state, 'run:' .. lane, 'n:' .. lane, 'cancel:' .. lane, 'seq',
  'boot')
if found[1] ~= ARGV[2] or found[5] ~= BOOT then return refusal(found[5]) end
local n, last = tonumber(ARGV[3]), tonumber(found[2])
if n ~= last + 1 then
  if n <= last then return {'DUPLICATE'} end
  return {'GAP', last}
end
local dispatch, run = string.match(ARGV[2], '^([^,]+),[^,]+,(.+)$')
local deadline = string.format('%d', now_ms() + ARGV[6])
local seq = found[4] + 1
local id = add_raw('{"type":"' .. ARGV[9] .. '","deadline":' .. deadline .. ARGV[10], seq,
  run .. ':' .. n)
local asks = words(redis.call('HGET', state, 'asks:' .. dispatch))
asks[#asks + 1] = ARGV[4] .. ',' .. ARGV[5] .. ',' .. deadline .. ',' .. ARGV[7] .. ',' .. ARGV[8]
set_words('asks:' .. dispatch, asks)
redis.call('HSET', state, 'n:' .. lane, n, 'at:' .. lane, string.match(id, '^%d+'), 'seq', seq)
tell()
return {'OK', id, found[3] or ''}
