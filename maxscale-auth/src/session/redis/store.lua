-- Stores what was read under a claim, if it still stands.
-- KEYS: hash. ARGV: nonce, since, for how long (seconds), state, the rest of `m`,
-- fields and values, lineage.
if STATE ~= 'c' or not ours(ARGV[2]) or string.sub(M, 14, 29) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEY)
if struct.unpack('>I8', ARGV[5]) < least() then
  return 0
end
redis.call('HSET', KEY, 'm', ARGV[4] .. LINEAGE .. ARGV[2] .. ARGV[5], unpack(ARGV, 6, #ARGV - 1))
redis.call('EXPIRE', KEY, ARGV[3])
return 1
