-- Make an active chat.
-- Promise: a key that is there, also of a closed chat, is left as it is: {'TAKEN'}.
-- KEYS: chat, active, closed. ARGV: id, target agent, then metadata: key, JSON, …
if redis.call('EXISTS', KEYS[1]) == 1 then
    return {'TAKEN'}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
now = string.format('%.0f', now)
redis.call('HSET', KEYS[1], 'status', 'ACTIVE', 'targetAgent', ARGV[2],
    'createdAt', now, 'updatedAt', now)
for i = 3, #ARGV, 2 do
    redis.call('HSET', KEYS[1], 'metadata:' .. ARGV[i], ARGV[i + 1])
end
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])  -- that of an expired chat with this id
return {'OK', redis.call('HGETALL', KEYS[1])}
