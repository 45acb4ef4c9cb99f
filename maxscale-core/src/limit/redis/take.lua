-- Takes one request from the quota of KEYS[1]; the arithmetic of gcra.rs.
-- ARGV: interval and tolerance in microseconds; in tests also the time.
-- Replies allowed (0 or 1), what is left or the wait, time until full.
-- Times count from 2025-01-01, so that doubles hold them exactly.
local interval = tonumber(ARGV[1])
local tolerance = tonumber(ARGV[2])
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = (time[1] - 1735689600) * 1000000 + time[2]
end

local furthest = now + tolerance
local state = tonumber(redis.call('GET', KEYS[1]) or now)
local full = math.min(math.max(state, now), furthest)
local next = full + interval

local function keep(full_at)
  local left = math.max(math.ceil((full_at - now) / 1000), 1)
  redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', string.format('%.0f', left))
end

if next > furthest then
  -- Denied requests write nothing, unless the quota was lowered or the clock
  -- stepped back: then the wait told below must be the true one.
  if state > furthest then
    keep(furthest)
  end
  return { 0, next - furthest, full - now }
end
keep(next)
return { 1, math.floor((furthest - next) / interval), next - now }
