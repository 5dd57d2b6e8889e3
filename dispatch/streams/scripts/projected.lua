-- projected: the row was brought up to a mark. Promise: the thread stays dirty if it has moved on
-- since. KEYS: stream, state, dirty. ARGV: mark. Answers: OK.
local mark = redis.call('HGET', state, 'mark')
if not mark or mark == ARGV[1] then redis.call('ZREM', KEYS[3], string.sub(stream, 13)) end
return {'OK'}
