-- The only clock that judges leases: this server's. Entry ids are Redis's own, so they never
-- come again, even after lost writes.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function next_id()
  return '*'
end
