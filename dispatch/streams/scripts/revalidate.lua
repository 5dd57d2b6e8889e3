-- revalidate: the server has started anew, or the thread is missing: is its stream as long as
-- somebody remembers? Promise: if it is, the thread goes on under this start of the server. If it is
-- not, the thread is told (`signal.thread.stream_rollback`), every open dispatch ends as failed,
-- since it may have run in what was lost, and later ids are greater than any the row ever saw.
-- Repeatable. KEYS: stream, state, due, dirty. ARGV: witness (the row's watermark, or what a run was
-- told to stand), 1 if work was under way.
-- Answers: OK | ROLLBACK mark | GONE | NO_THREAD (and nothing to remember: create it).
local due = KEYS[3]
local witness = ARGV[1]
local found = redis.call('HMGET', state, 'open', 'deleted', 'seq')
if found[2] then return {'GONE'} end
if not found[1] and witness == '' then return {'NO_THREAD'} end
-- The newest id ever given, also if that entry was deleted since.
local function newest()
  if redis.call('EXISTS', stream) == 0 then return '' end
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return (public(info[i + 1])) end
  end
end
if found[1] and newest() >= witness then
  redis.call('HSET', state, 'boot', BOOT)
  return {'OK'}
end

local ms, n = string.match(witness, '^0*(%d+)_0*(%d+)$')
local ask = next_id
next_id = function()
  local wish = ask()
  next_id = ask
  if now_ms() > tonumber(ms) then return wish end
  return string.format('%d-%d', ms, n + 1)
end
local seq = (found[3] or 0) + 1
local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local mark = add('{"type":"signal.thread.stream_rollback","witness":"' .. witness .. '"'
  .. (last and (',"kept":"' .. public(last[1]) .. '"') or '')
  .. (ARGV[2] == '1' and ',"wasRunning":true' or '') .. '}', seq)
redis.call('HSET', state, 'open', 1, 'boot', BOOT, 'seq', seq, 'mark', mark)
if ARGV[2] == '1' then redis.call('HSET', state, 'outcome', 'orphaned') end
local lanes, open = {}, {}
local fields = redis.call('HGETALL', state)
for i = 1, #fields, 2 do
  local kind, name = string.match(fields[i], '^(%a+):(.+)$')
  if kind == 'dispatch' then
    local lane = string.match(fields[i + 1], '^[^,]+')
    open[#open + 1] = {name, lane}
    lanes[lane] = true
  end
end
table.sort(open, function(a, b) return a[1] < b[1] end)
local runs = {}
for lane in pairs(lanes) do
  local held = redis.call('HGET', state, 'run:' .. lane)
  if held then
    local dispatch, run = string.match(held, '^([^,]+),[^,]+,(.+)$')
    runs[dispatch] = run
  end
  clear_run(lane)
  redis.call('HDEL', state, 'queue:' .. lane, 'since:' .. lane, 'steer:' .. lane)
  redis.call('ZREM', due, due_member(lane))
end
for _, each in ipairs(open) do
  mark, _, seq = fail(each[2], each[1], runs[each[1]], 'stream_rollback', seq)
end
mark_dirty(KEYS[4])
tell()
return {'ROLLBACK', mark}
