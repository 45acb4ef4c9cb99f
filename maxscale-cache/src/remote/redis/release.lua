-- Ends the claim of ARGV[1] (eight bytes) on KEYS[1].
local record = redis.pcall('GETRANGE', KEYS[1], 0, HEAD - 1)
if ours(record) and part(record, 28) == ARGV[1] then
  redis.call('SETRANGE', KEYS[1], 28, ZERO .. ZERO)
end
return 1
