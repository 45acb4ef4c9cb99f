-- Moves forward when a session was last used, and tells whether its row should hear.
-- KEYS: hash. ARGV: session, since, when (seconds), by how much the row may lag at
-- most (seconds), and by which part of the idle time, lineage.
if not copy(ARGV[2]) then
  return 1
end
local record = redis.call('HGET', KEY, ARGV[1])
if not record or #record ~= 64 then
  return STATE == 'w' and 0 or 1
end
local function number(at)
  return struct.unpack('>I4', record, at + 1)
end
local at = tonumber(ARGV[3])
if at <= number(12) then
  return 0
end
local last, row = struct.pack('>I4', at), string.sub(record, 29, 32)
local late = at - number(28) >= math.min(tonumber(ARGV[4]), number(20) / tonumber(ARGV[5]))
if late then
  row = last
end
-- The secret before is kept for its grace only.
local previous = redis.call('HGET', KEY, 'o' .. ARGV[1])
if previous and struct.unpack('>I4', previous, 2) <= at then
  redis.call('HDEL', KEY, 'o' .. ARGV[1])
  previous = false
end
local format = string.sub(record, 1, 1)
if not previous and redis.call('HEXISTS', KEY, 'a' .. ARGV[1]) == 0 then
  -- Nothing lies beside it; see packed.rs.
  format = '\2'
end
record = format .. string.sub(record, 2, 12) .. last .. string.sub(record, 17, 28) .. row .. string.sub(record, 33)
redis.call('HSET', KEY, ARGV[1], record)
return late and 1 or 0
