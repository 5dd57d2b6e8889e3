-- refill: archived entries come back beside the stream, oldest first; then copies of the live ones.
-- Promise: the stream itself does not change; what a restore that died left here goes by itself.
-- KEYS: stream, state, restoring. ARGV: the pointer as it was read, the last Redis id put there so
-- far ('': begin anew), ttl s, then per entry: Redis id, payload, seq ('' ephemeral), writer ('' none);
-- no entry: copy up to 500 of the live ones.
-- Answers: OK last | MOVED | BEHIND (somebody else restores) | RESTARTED | GONE | NO_THREAD.
local restoring = KEYS[3]
local found = redis.call('HMGET', state, 'boot', 'archived')
if found[1] ~= BOOT then return refusal(found[1]) end
if found[2] ~= ARGV[1] then return {'MOVED'} end
local last = ARGV[2]
if last ~= '' then
  local rows = redis.call('XREVRANGE', restoring, '+', '-', 'COUNT', 1)
  if not rows[1] or rows[1][1] ~= last then return {'BEHIND'} end
else
  redis.call('DEL', restoring)
end
for i = 4, #ARGV, 4 do
  local fields = {'p', ARGV[i + 1]}
  if ARGV[i + 2] ~= '' then
    fields[#fields + 1] = 's'
    fields[#fields + 1] = ARGV[i + 2]
  end
  if ARGV[i + 3] ~= '' then
    fields[#fields + 1] = 'w'
    fields[#fields + 1] = ARGV[i + 3]
  end
  last = redis.call('XADD', restoring, ARGV[i], unpack(fields))
end
if not ARGV[4] then
  local from = last == '' and '-' or '(' .. last
  for _, row in ipairs(redis.call('XRANGE', stream, from, '+', 'COUNT', 500)) do
    last = redis.call('XADD', restoring, row[1], unpack(row[2]))
  end
end
redis.call('EXPIRE', restoring, ARGV[3])
return {'OK', last}
