-- Remove chats with the usual retention that were closed at least so long ago.
-- Promise: what is active again, or gone, is no more than dropped from the index.
-- KEYS: closed. ARGV: prefix of the chats' keys, milliseconds ago, how many to look at.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local upto = string.format('%.0f', now - ARGV[2])
local page = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', upto, 'LIMIT', 0, ARGV[3])
local removed = 0
for _, id in ipairs(page) do
    if redis.pcall('HGET', ARGV[1] .. id, 'status') == 'CLOSED' then
        removed = removed + redis.call('UNLINK', ARGV[1] .. id)
    end
    redis.call('ZREM', KEYS[1], id)
end
return {#page, removed}
