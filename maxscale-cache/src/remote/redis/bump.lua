-- Moves the fence of KEYS[1]. ARGV: whether the value stays (1), a version (eight
-- bytes), how long a fence without a value is kept (milliseconds), channel and
-- message, the server's lineage. Replies the fence and the version before.
local key, version, ttl, lineage = KEYS[1], ARGV[2], ARGV[3], ARGV[6]

local record = redis.pcall('GETRANGE', key, 0, HEAD - 1)
local same = ours(record) and part(record, 12) == lineage
local before = same and part(record, 20) or ZERO
-- A change without a version may be of any, so none is known after it.
if version ~= ZERO and less(version, before) then
  version = before
end
local fence = next_fence(record)
if ARGV[1] == '1' and same and redis.call('STRLEN', key) > HEAD then
  redis.call('SETRANGE', key, 0, head(fence, lineage, version))
else
  -- A key of another type, and a server too full to take the new fence, must not
  -- keep the old value alive: without any fence fills are refused as well.
  redis.call('DEL', key)
  redis.pcall('SET', key, head(fence, lineage, version), 'PX', ttl)
end
redis.call('PUBLISH', ARGV[4], ARGV[5])
return {string.format('%.0f', fence), before}
