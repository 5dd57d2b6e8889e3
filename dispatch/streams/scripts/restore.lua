-- restore: what was refilled takes the stream's place, and nothing is archived any more. Promise:
-- the stream is what it was before it was archived, with all that came since; ids never come again.
-- KEYS: stream, state, restoring. ARGV: the pointer as it was read, how many entries are archived.
-- Answers: OK | MOVED | BUSY (a run is under way) | BEHIND (copy more) | CHANGED (begin anew)
-- | RESTARTED | GONE | NO_THREAD.
local restoring = KEYS[3]
local found = redis.call('HMGET', state, 'boot', 'archived')
if found[1] ~= BOOT then return refusal(found[1]) end
if found[2] ~= ARGV[1] then return {'MOVED'} end
for _, field in ipairs(redis.call('HKEYS', state)) do
  if string.sub(field, 1, 4) == 'run:' then return {'BUSY'} end
end
local there = redis.call('XREVRANGE', restoring, '+', '-', 'COUNT', 1)
if not there[1] then return {'CHANGED'} end
local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
if there[1][1] ~= last[1][1] then return {'BEHIND'} end
if redis.call('XLEN', restoring) ~= ARGV[2] + redis.call('XLEN', stream) then return {'CHANGED'} end
local newest = newest_id()
redis.call('RENAME', restoring, stream)
redis.call('PERSIST', stream)
redis.call('XSETID', stream, newest)
redis.call('HSET', state, 'archived', string.format('%d,', string.match(found[2], '^%d+') + 1))
return {'OK'}
