-- revalidate: the server has started anew, or the thread is missing: is its stream as long as
-- somebody remembers? Promise: if it is, the thread goes on under this start of the server. If it is
-- not, the thread is told (`signal.thread.stream_rollback`), every open dispatch ends as failed,
-- since it may have run in what was lost, and later ids are greater than any the row ever saw.
-- What was archived is not lost: a hash that is missing begins as the fold of it.
-- Repeatable. KEYS: stream, state, due, dirty. ARGV: witness (the row's watermark, the last archived
-- entry, or what a run was told to stand), 1 if work was under way, then the fields of that fold.
-- Answers: OK | ROLLBACK mark | GONE | NO_THREAD (and nothing to remember: create it).
local due = KEYS[3]
local witness = ARGV[1]
local found = redis.call('HMGET', state, 'open', 'deleted', 'seq')
if found[2] then return {'GONE'} end
if not found[1] and witness == '' then return {'NO_THREAD'} end
local function newest()
  local id = newest_id()
  return id and (public(id)) or ''
end
if found[1] and newest() >= witness then
  redis.call('HSET', state, 'boot', BOOT)
  return {'OK'}
end
if not found[1] and ARGV[3] then
  redis.call('HSET', state, unpack(ARGV, 3))
  found = redis.call('HMGET', state, 'open', 'deleted', 'seq')
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
local kept = last and (public(last[1]))
  or string.match(redis.call('HGET', state, 'archived') or '', ',(.+)$')
local mark = add('{"type":"signal.thread.stream_rollback","witness":"' .. witness .. '"'
  .. (kept and (',"kept":"' .. kept .. '"') or '')
  .. (ARGV[2] == '1' and ',"wasRunning":true' or '') .. '}', seq)
redis.call('HSET', state, 'open', 1, 'boot', BOOT, 'seq', seq, 'mark', mark)
-- Nothing may be trimmed by a segment of the lost time: what it holds may never have been here.
local moves, archived = string.match(redis.call('HGET', state, 'archived') or '0,', '^(%d+),(.*)$')
redis.call('HSET', state, 'archived',
  string.format('%d,%s', math.max(now_ms(), moves + 1), archived))
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
