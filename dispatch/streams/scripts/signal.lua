-- signal: append one durable entry that no run wrote and that changes no dispatch
-- (`signal.thread.renamed`, `signal.house.*`); under a key, told once: what `accept` took under the
-- same key counts as told, and the other way round.
-- KEYS: stream, state, and with a key: keys, ages (as in accept). ARGV: payload, and with a key: its
-- digest, ttl s. Answers: OK id | DUPLICATE id | RESTARTED | GONE | NO_THREAD.
local digest, ttl = ARGV[2], ARGV[3]
local found = redis.call('HMGET', state, 'boot', 'seq')
if found[1] ~= BOOT then return refusal(found[1]) end
local known = digest and redis.call('HGET', KEYS[3], digest)
if known then return {'DUPLICATE', string.match(known, '^%S+ (%S+)')} end
local seq = found[2] + 1
local entry = add(ARGV[1], seq)
redis.call('HSET', state, 'seq', seq)
if digest then
  redis.call('HSET', KEYS[3], digest, 'signal ' .. entry .. ' ')
  redis.call('ZADD', KEYS[4], now_ms(), digest)
  redis.call('EXPIRE', KEYS[3], ttl)
  redis.call('EXPIRE', KEYS[4], ttl)
end
tell()
return {'OK', entry}
