-- finish: running -> done. Promise: exactly one terminal per dispatch; the run's last words ride in
-- the same call; the lane is free for its next dispatch when this answers; a repeat hears DUPLICATE.
-- KEYS: stream, state, due, runs, dirty. ARGV: lane, fence, n of the first event, outcome, due after ms,
-- usage (input output cacheRead cacheWrite totalTokens costNanos, space separated), terminal
-- payload, then per event: d or e, payload, its tool calls (as for append). Answers: OK terminal waiting | DUPLICATE terminal |
-- GAP last | FENCED | RESTARTED | GONE | NO_THREAD.
local due, runs = KEYS[3], KEYS[4]
local lane, fence = ARGV[1], ARGV[2]
local found = redis.call('HMGET', state, 'run:' .. lane, 'n:' .. lane, 'seq', 'last:' .. lane,
  'boot')
if found[1] ~= fence or found[5] ~= BOOT then
  local ended, terminal = string.match(found[4] or '', '^(%S+) (%S+)$')
  if ended == fence and found[5] == BOOT then return {'DUPLICATE', terminal} end
  return refusal(found[5])
end
local n, last = tonumber(ARGV[3]), tonumber(found[2])
if n ~= last + 1 then return {'GAP', last} end
local dispatch, run = string.match(fence, '^([^,]+),[^,]+,(.+)$')
local seq = tonumber(found[3])
for i = 8, #ARGV, 3 do
  if ARGV[i] == 'd' then
    seq = seq + 1
    add_raw(ARGV[i + 1], seq, run .. ':' .. n)
  else
    add_raw(ARGV[i + 1], nil, run .. ':' .. n)
  end
  note_calls(dispatch, ARGV[i + 2])
  n = n + 1
end
seq = interrupt_calls(dispatch, seq) + 1
local terminal, at = add(ARGV[7], seq, run .. ':' .. n)
local names = {'input', 'output', 'cacheRead', 'cacheWrite', 'totalTokens', 'costNanos'}
local i = 0
for amount in string.gmatch(ARGV[6], '%d+') do
  i = i + 1
  if amount ~= '0' then redis.call('HINCRBY', state, 'usage:' .. names[i], amount) end
end
clear_run(lane)
forget(dispatch)
redis.call('HSET', state, 'seq', seq, 'mark', terminal, 'outcome', ARGV[4],
  'last:' .. lane, fence .. ' ' .. terminal)
fall_through(lane, dispatch, seq)
local waiting = free_lane(due, lane, at, now_ms() + ARGV[5])
redis.call('SREM', runs, due_member(lane))
mark_dirty(KEYS[5])
tell()
return {'OK', terminal, waiting}
