-- signal: append one durable entry that no run wrote and that changes no dispatch
-- (`signal.thread.renamed`, `signal.house.*`). ARGV: payload. Answers: OK id | RESTARTED | GONE
-- | NO_THREAD.
local found = redis.call('HMGET', state, 'boot', 'seq')
if found[1] ~= BOOT then return refusal(found[1]) end
local seq = found[2] + 1
local entry = add(ARGV[1], seq)
redis.call('HSET', state, 'seq', seq)
tell()
return {'OK', entry}
