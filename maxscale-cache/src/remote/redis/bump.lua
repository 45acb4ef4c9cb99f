-- Moves the fence of KEYS[1]. ARGV: whether the value stays (1), how long a fence
-- without a value is kept (milliseconds), the server's lineage.
-- Replies the fence, and the version of the value that was there (zero: none).
local key, ttl, lineage = KEYS[1], ARGV[2], ARGV[3]

local record = redis.pcall('GETRANGE', key, 0, HEAD - 1)
local has_value = ours(record) and part(record, 12) == lineage and redis.call('STRLEN', key) > HEAD
local before = has_value and part(record, 20) or ZERO
local fence = next_fence(record)
if ARGV[1] == '1' and has_value then
  redis.call('SETRANGE', key, 0, head(fence, lineage, before))
else
  -- A key of another type, and a server too full to take the new fence, must not
  -- keep the old value alive: without any fence fills are refused as well.
  redis.call('DEL', key)
  redis.pcall('SET', key, head(fence, lineage, ZERO), 'PX', ttl)
end
return {string.format('%.0f', fence), before}
