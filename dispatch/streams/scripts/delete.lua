-- delete: any -> deleted. Promise: when this answers no key of the thread exists but a tombstone
-- that expires; every later write hears GONE; followers are told. Repeatable, also for a thread
-- that never was. KEYS: stream, state, keys, ages, due, dirty, restoring. ARGV: tombstone ttl
-- s, [the mark at which it was looked at: only if nothing was accepted, started or ended since].
-- Answers: OK | CHANGED.
local due = KEYS[5]
if ARGV[2] and (redis.call('HGET', state, 'mark') or '') ~= ARGV[2] then return {'CHANGED'} end
for _, field in ipairs(redis.call('HKEYS', state)) do
  local kind, lane = string.match(field, '^(%a+):(.+)$')
  if kind == 'queue' or kind == 'run' then redis.call('ZREM', due, due_member(lane)) end
end
redis.call('ZREM', KEYS[6], string.sub(stream, 13))
redis.call('DEL', stream, state, KEYS[3], KEYS[4], KEYS[7])
redis.call('HSET', state, 'deleted', now_ms())
redis.call('EXPIRE', state, ARGV[1])
redis.call('PUBLISH', stream, '{"gone":true}')
return {'OK'}
