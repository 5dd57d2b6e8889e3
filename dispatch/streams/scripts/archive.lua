-- archive: the head of a stream goes, for its entries stand in a segment now. Promise: exactly the
-- entries that were packed go, and the pointer moves with them; nothing that an open dispatch may
-- still read, and never the last entry. The fold does not change.
-- KEYS: stream, state. ARGV: the pointer as it was read ('': none), first entry, last entry, how many.
-- Answers: OK pointer | MOVED | CHANGED | NEEDED entry | LAST | RESTARTED | GONE | NO_THREAD.
local found = redis.call('HMGET', state, 'boot', 'archived')
if found[1] ~= BOOT then return refusal(found[1]) end
local before = found[2] or ''
if before ~= ARGV[1] then return {'MOVED'} end
for _, field in ipairs(redis.call('HKEYS', state)) do
  local entry = string.match(field, '^dispatch:([^.]+)')
  if entry and entry <= ARGV[3] then return {'NEEDED', entry} end
end
local count = tonumber(ARGV[4])
local rows = redis.call('XRANGE', stream, '-', '+', 'COUNT', count + 1)
if not rows[count] or public(rows[1][1]) ~= ARGV[2] or public(rows[count][1]) ~= ARGV[3] then
  return {'CHANGED'}
end
if not rows[count + 1] then return {'LAST'} end
redis.call('XTRIM', stream, 'MINID', rows[count + 1][1])
local pointer = string.format('%d,%s', (string.match(before, '^%d+') or 0) + 1, ARGV[3])
redis.call('HSET', state, 'archived', pointer)
return {'OK', pointer}
