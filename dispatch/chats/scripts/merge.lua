-- Set some keys of an active chat's metadata; each is a field of its own, so nothing is read.
-- Promise: a chat that is closed or not there stays so: {'NOT_ACTIVE'}.
-- KEYS: chat. ARGV: metadata: key, JSON, …
if redis.call('HGET', KEYS[1], 'status') ~= 'ACTIVE' then
    return {'NOT_ACTIVE'}
end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
for i = 1, #ARGV, 2 do
    redis.call('HSET', KEYS[1], 'metadata:' .. ARGV[i], ARGV[i + 1])
end
redis.call('HSET', KEYS[1], 'updatedAt', now)
return {'OK', redis.call('HGETALL', KEYS[1])}
