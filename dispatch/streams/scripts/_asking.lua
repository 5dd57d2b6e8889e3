-- Shared by wait, answer and expire: a turn that waits for answers from outside holds no worker.

-- When somebody must look at a waiting dispatch, and whether at what it delegated too: as soon as
-- its first ask is over; where it waits for another thread, after a while all the same.
local function next_look(asks, after_a_while)
  local first, delegates
  for _, ask in ipairs(asks) do
    if not first or ask.deadline < first then first = ask.deadline end
    delegates = delegates or ask.kind == 'delegation'
  end
  return delegates and math.min(first, after_a_while) or first, delegates
end

-- Forget one ask, or keep all but those that are over; the words that are left.
local function set_asks(dispatch, asks)
  local left = {}
  for i, ask in ipairs(asks) do left[i] = ask.word end
  set_words('asks:' .. dispatch, left)
end

-- An ask was answered. A permission says that a call may be made; any other answer is its result.
local function keep_answer(dispatch, ask)
  if ask.kind == 'permission' then return end
  local answered = words(redis.call('HGET', state, answered_field(dispatch)))
  answered[#answered + 1] = ask.call
  set_words(answered_field(dispatch), answered)
end

local function over_json(ask, dispatch)
  local of = '","dispatchId":"' .. dispatch .. '",'
  if ask.kind == 'delegation' then
    return '{"type":"signal.dispatch.delegation_ended","delegationId":"' .. ask.id .. of
      .. '"status":"expired"}'
  end
  return '{"type":"signal.permission.expired","permissionId":"' .. ask.id .. of .. '"default":"'
    .. ask.default .. '"}'
end

-- Asks whose time is over are answered by their defaults. Returns those left, and seq.
local function expire_asks(dispatch, seq, now)
  local left, is_changed = {}, false
  for _, ask in ipairs(asks_of(dispatch)) do
    if now < ask.deadline then
      left[#left + 1] = ask
    else
      is_changed = true
      seq = seq + 1
      add_raw(over_json(ask, dispatch), seq)
      keep_answer(dispatch, ask)
    end
  end
  if is_changed then set_asks(dispatch, left) end
  return left, seq
end

-- Everything was answered: the dispatch may be taken up again at once. Returns its mark.
local function resume(lane, dispatch, record, seq)
  local mark, at = add('{"type":"signal.dispatch.resumed","dispatchId":"' .. dispatch .. '"}', seq)
  record.not_before = 0
  redis.call('HSET', state, 'seq', seq, 'mark', mark, 'dispatch:' .. dispatch,
    record_text(record))
  local work = redis.call('HMGET', state, 'queue:' .. lane, 'run:' .. lane)
  if not work[2] and string.match(work[1], '^%S+') == dispatch then
    redis.call('HSET', state, 'since:' .. lane, at)
  end
  return mark
end
