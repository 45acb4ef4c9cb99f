-- Takes the lease if nobody has it. Tells the server's time, and the last
-- number that was given.
-- KEYS: lease, stream. ARGV: owner, for how long (ms), how long it is
-- remembered beyond that (ms), [who asks for the lineage].
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[3]) then
  return {0, now, '0'}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2] + ARGV[3])
local last = '0'
if redis.call('EXISTS', KEYS[2]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[2])
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' then
      last = string.match(info[at + 1], '^%d+')
    end
  end
end
return {1, now, last}
