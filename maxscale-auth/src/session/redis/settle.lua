-- Drops a hash that may not know of a change.
-- KEYS: hash. ARGV: the change's number (eight bytes), since, lineage.
if copy(ARGV[2]) and struct.unpack('>I8', M, 14) >= struct.unpack('>I8', ARGV[1]) then
  return 0
end
return redis.call('DEL', KEY)
