-- Stands before the scripts whose ARGV begins with the time: what a test says, or
-- the server's where that is empty. Microseconds since 2025-01-01, so that doubles
-- hold it exactly.
local call = redis.call
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = (time[1] - 1735689600) * 1000000 + time[2]
end

