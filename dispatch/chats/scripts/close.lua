-- Close a chat and let Redis remove it when its time is over.
-- Promise: of many callers one finds it active and closes it; the others: {'NOT_ACTIVE'}.
-- KEYS: chat, active, closed. ARGV: id, milliseconds to keep it, the usual ones, reason?
if redis.call('HGET', KEYS[1], 'status') ~= 'ACTIVE' then
    return {'NOT_ACTIVE'}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local text = string.format('%.0f', now)
redis.call('HSET', KEYS[1], 'status', 'CLOSED', 'updatedAt', text, 'closedAt', text,
    'expiresAt', string.format('%.0f', now + ARGV[2]))
if ARGV[4] then
    redis.call('HSET', KEYS[1], 'reason', ARGV[4])
end
redis.call('ZREM', KEYS[2], ARGV[1])
-- Those with the usual retention may be removed sooner, so they are remembered until then.
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now - ARGV[3]))
if ARGV[2] == ARGV[3] then
    redis.call('ZADD', KEYS[3], text, ARGV[1])
end
local chat = redis.call('HGETALL', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'OK', chat}
