-- signal: append one durable entry that no run wrote and that changes no dispatch
-- (`signal.thread.renamed`, `signal.house.*`). ARGV: payload. Answers: OK id | GONE | NO_THREAD.
local found = redis.call('HMGET', state, 'open', 'seq')
if not found[1] then return refusal() end
local seq = found[2] + 1
local entry = add(ARGV[1], seq)
redis.call('HSET', state, 'seq', seq)
tell()
return {'OK', entry}
