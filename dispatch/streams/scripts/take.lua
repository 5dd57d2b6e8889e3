-- take: at a step of its turn a run takes in the entries that were posted to steer it.
-- Promise: each is delivered once, to the turn it was meant for, in the order of posting; its own
-- dispatch ends here. It counts as a visible effect. A repeat is answered as the first time.
-- KEYS: stream, state. ARGV: lane, fence, n of the first event, step.
-- Answers: OK cancel, then per entry: dispatch, entry-payload | GAP last | FENCED | RESTARTED | GONE
-- | NO_THREAD.
local lane = ARGV[1]
local found = redis.call('HMGET', state, 'run:' .. lane, 'n:' .. lane, 'cancel:' .. lane, 'seq',
  'boot', 'steer:' .. lane, 'queue:' .. lane)
if found[1] ~= ARGV[2] or found[5] ~= BOOT then return refusal(found[5]) end
local n, last = tonumber(ARGV[3]), tonumber(found[2])
if n > last + 1 then return {'GAP', last} end
local target, run = string.match(ARGV[2], '^([^,]+),[^,]+,(.+)$')
local answer = {'OK', found[3] or ''}

local function deliver(dispatch)
  local ms, number = string.match(dispatch, '^0*(%d+)_0*(%d+)%.')
  local rows = redis.call('XRANGE', stream, ms .. '-' .. number, ms .. '-' .. number)
  answer[#answer + 1] = dispatch
  answer[#answer + 1] = rows[1] and rows[1][2][2] or ''
end

if n <= last then
  local cursor, told = '+', {}
  while last >= n do
    local rows = redis.call('XREVRANGE', stream, cursor, '-', 'COUNT', 100)
    if #rows == 0 then break end
    for _, row in ipairs(rows) do
      if last >= n and row[2][6] == run .. ':' .. last then
        table.insert(told, 1, string.match(row[2][2], '"dispatchId":"([^"]+)"'))
        last = last - 1
      end
      cursor = '(' .. row[1]
    end
  end
  for _, dispatch in ipairs(told) do deliver(dispatch) end
  return answer
end

local its, others = steering(found[6], target)
if #its == 0 then return answer end
local is_taken = {}
local seq, id = tonumber(found[4]), nil
for _, dispatch in ipairs(its) do
  is_taken[dispatch] = true
  deliver(dispatch)
  seq = seq + 1
  id = add_raw('{"type":"signal.dispatch.steered","dispatchId":"' .. dispatch
    .. '","entryId":"' .. string.match(dispatch, '^[^.]+') .. '","into":"' .. target
    .. '","runId":"' .. run .. '","step":' .. ARGV[4] .. '}', seq, run .. ':' .. n)
  redis.call('HDEL', state, 'dispatch:' .. dispatch)
  n = n + 1
end
local left = {}
for _, dispatch in ipairs(words(found[7])) do
  if not is_taken[dispatch] then left[#left + 1] = dispatch end
end
set_words('queue:' .. lane, left)
set_words('steer:' .. lane, others)
redis.call('HSET', state, 'n:' .. lane, n - 1, 'at:' .. lane, string.match(id, '^%d+'),
  'seq', seq, 'mark', (public(id)), 'effects:' .. lane, 1)
tell()
return answer
