-- append: a run writes events. Promise: only the holder writes, each event once and in order;
-- a batch is all or nothing; the lease starts anew (the due index catches up when it is looked at).
-- ARGV: lane, fence `dispatch,attempt,run`, n of the first event, max stream, effect: 1 | 0 | c (the
-- last event is a checkpoint: what was done before it is never done again), then per event: d
-- (durable) or e (ephemeral), payload, its tool calls: `+id,name …` opens, `-id` closes, '' neither.
-- Answers: OK id cancel | DUPLICATE | GAP last | FULL | FENCED
-- | RESTARTED | GONE | NO_THREAD. cancel: `deadline,reason` when the run was asked to end, else ''.
local lane = ARGV[1]
local found = redis.call('HMGET', state, 'run:' .. lane, 'n:' .. lane, 'cancel:' .. lane,
  'effects:' .. lane, 'seq', 'boot')
if found[1] ~= ARGV[2] or found[6] ~= BOOT then return refusal(found[6]) end
local n, last = tonumber(ARGV[3]), tonumber(found[2])
if n ~= last + 1 then
  if n <= last then return {'DUPLICATE'} end
  return {'GAP', last}
end
if redis.call('XLEN', stream) >= tonumber(ARGV[4]) then return {'FULL'} end
local dispatch, run = string.match(ARGV[2], '^([^,]+),[^,]+,(.+)$')
local seq = tonumber(found[5])
local id
for i = 6, #ARGV, 3 do
  if ARGV[i] == 'd' then
    seq = seq + 1
    id = add_raw(ARGV[i + 1], seq, run .. ':' .. n)
  else
    id = add_raw(ARGV[i + 1], nil, run .. ':' .. n)
  end
  note_calls(dispatch, ARGV[i + 2])
  n = n + 1
end
local at = string.match(id, '^%d+')
if ARGV[5] == '1' and not found[4] then
  redis.call('HSET', state, 'n:' .. lane, n - 1, 'at:' .. lane, at, 'seq', seq,
    'effects:' .. lane, 1)
else
  redis.call('HSET', state, 'n:' .. lane, n - 1, 'at:' .. lane, at, 'seq', seq)
end
if ARGV[5] == 'c' then
  local record = record_of(dispatch)
  record.checkpoint = public(id)
  redis.call('HSET', state, 'dispatch:' .. dispatch, record_text(record))
  redis.call('HDEL', state, 'effects:' .. lane)
end
tell()
return {'OK', id, found[3] or ''}
