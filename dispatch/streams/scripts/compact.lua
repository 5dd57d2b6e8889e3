-- compact: delete chunks of a run that a finished message replaced, at most 200 entries looked at
-- in a call, so that nobody waits long. Only `pi.chunk` goes: the fold does not change.
-- ARGV: run id, first Redis id (exclusive), last Redis id. Answers: MORE id | OK.
local rows = redis.call('XRANGE', stream, '(' .. ARGV[2], ARGV[3], 'COUNT', 200)
local doomed = {}
for _, row in ipairs(rows) do
  local fields = row[2]
  if fields[3] == 'w' and string.sub(fields[2], 1, 18) == '{"type":"pi.chunk"'
      and string.match(fields[4], '^[^:]+') == ARGV[1] then
    doomed[#doomed + 1] = row[1]
  end
end
if #doomed > 0 then redis.call('XDEL', stream, unpack(doomed)) end
if #rows == 200 then return {'MORE', rows[200][1]} end
return {'OK'}
