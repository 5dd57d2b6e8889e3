-- create: no thread -> open. Promise: at most one `signal.thread.created`, always the first
-- entry; a deleted thread is never created again while its tombstone stands.
-- ARGV: payload. Answers: OK id | EXISTS | GONE.
local found = redis.call('HMGET', state, 'open', 'deleted')
if found[1] then return {'EXISTS'} end
if found[2] then return {'GONE'} end
local entry = add(ARGV[1], 1)
redis.call('HSET', state, 'open', 1, 'boot', BOOT, 'seq', 1, 'mark', entry)
tell()
return {'OK', entry}
