-- Shared by finish, release and expire: how a run leaves its lane.
local RUN_FIELDS = {'run:', 'n:', 'at:', 'lease:', 'hard:', 'worker:', 'started:', 'effects:',
  'cancel:', 'beat:'}

local function clear_run(lane)
  local fields = {}
  for i, name in ipairs(RUN_FIELDS) do fields[i] = name .. lane end
  redis.call('HDEL', state, unpack(fields))
end

-- The lane is free: its next dispatch is due soon, or nobody needs to look at it any more.
local function free_lane(due, lane, since, look_at)
  if redis.call('HEXISTS', state, 'queue:' .. lane) == 1 then
    redis.call('HSET', state, 'since:' .. lane, since)
    redis.call('ZADD', due, look_at, due_member(lane))
    return 1
  end
  redis.call('ZREM', due, due_member(lane))
  return 0
end
