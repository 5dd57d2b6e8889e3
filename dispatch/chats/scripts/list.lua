-- Return a page of active chats, by id: {id, fields, id, fields, …}; a broken one has no fields.
-- Promise: an id whose chat is gone (evicted, removed by hand) is dropped from the index.
-- KEYS: active. ARGV: prefix of the chats' keys, range from, range to, limit.
local page = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[2], ARGV[3], 'LIMIT', 0, ARGV[4])
local found = {}
for _, id in ipairs(page) do
    local chat = redis.pcall('HGETALL', ARGV[1] .. id)
    if chat.err then
        chat = {}
    elseif #chat == 0 then
        redis.call('ZREM', KEYS[1], id)
    end
    found[#found + 1] = id
    found[#found + 1] = chat
end
return found
