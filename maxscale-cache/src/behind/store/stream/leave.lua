-- Gives up the lease, if it is ours. It is remembered whose it was.
-- KEYS: lease. ARGV: owner, for how long (ms).
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
