-- Stores the record ARGV[1] under KEYS[1] for ARGV[2] milliseconds, if fence and
-- lineage there are still those of the record.
local there = redis.pcall('GETRANGE', KEYS[1], 0, 19)
if there ~= string.sub(ARGV[1], 1, 20) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
