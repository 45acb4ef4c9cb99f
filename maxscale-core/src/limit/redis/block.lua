-- Denies everything of KEYS[1] for ARGV[1] microseconds; see take.lua.
local time = redis.call('TIME')
local now = (time[1] - 1735689600) * 1000000 + time[2]
local left = tonumber(ARGV[1])
redis.call(
  'SET', KEYS[1], string.format('b%.0f', now + left),
  'PX', string.format('%.0f', math.max(math.ceil(left / 1000), 1))
)
return 1
