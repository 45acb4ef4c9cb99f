-- Adds an entry if one is given, removes others, and renews the lease of its
-- owner.
-- KEYS: lease, stream. ARGV: owner, for how long (ms), how long it and an empty
-- stream are remembered (ms), the first number that is needed, number and text
-- of an entry or two empty texts, [who asks for the lineage].
--
-- Somebody else's lease is never touched, held or not. One that is gone, as
-- the server has lost it, is made again. Without an entry it also works when
-- the server's memory is full, so that there is room again.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  return {0, '0'}
end
if ARGV[5] ~= '' then
  -- First, as a server whose memory is full refuses only what a script begins
  -- with. Refused as well unless it is above all numbers that were given.
  redis.call('XADD', KEYS[2], ARGV[5] .. '-0', 'r', ARGV[6])
end
redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[4])
if owner then
  redis.call('PEXPIRE', KEYS[1], ARGV[2] + ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2] + ARGV[3])
end
-- What was acknowledged never expires. Without any, the stream is only the
-- last number, which the server's time stands for as well.
if redis.call('XLEN', KEYS[2]) == 0 then
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
else
  redis.call('PERSIST', KEYS[2])
end
local time = redis.call('TIME')
return {owner and 1 or 2, string.format('%.0f', time[1] * 1000000 + time[2])}
