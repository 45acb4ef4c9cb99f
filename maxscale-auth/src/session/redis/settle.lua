-- Drops a hash that may not know of a change, and has a claim know of it.
-- KEYS: hash. ARGV: the change's number (eight bytes), since, lineage.
local change = struct.unpack('>I8', ARGV[1])
if copy(ARGV[2]) and struct.unpack('>I8', M, 14) >= change then
  return 0
end
if ours(ARGV[2]) and STATE == 'c' then
  if least() < change then
    redis.call('HSET', KEY, 'm', string.sub(M, 1, 37) .. ARGV[1])
  end
  return 0
end
return redis.call('DEL', KEY)
