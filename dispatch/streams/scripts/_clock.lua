-- The only clock that judges leases: this server's. Entry ids are Redis's own, so they never
-- come again, even after lost writes. BOOT names this start of the server: a thread's hash that
-- was last seen under another one may have lost its end, and must be compared with its row first.
local BOOT = '@boot@'
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function next_id()
  return '*'
end
