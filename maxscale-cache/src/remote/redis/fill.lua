-- Stores the record ARGV[1] under KEYS[1] for ARGV[2] milliseconds, if fence and
-- lineage there are still those of the record. The version stays.
local there = redis.pcall('GETRANGE', KEYS[1], 0, 27)
if type(there) ~= 'string' or #there ~= 28 or string.sub(there, 1, 20) ~= string.sub(ARGV[1], 1, 20) then
  return 0
end
local record = ARGV[1]
if string.sub(there, 21, 28) ~= string.sub(record, 21, 28) then
  record = there .. string.sub(record, 29)
end
redis.call('SET', KEYS[1], record, 'PX', ARGV[2])
return 1
