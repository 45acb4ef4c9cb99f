-- Gives the caller the right to store what it reads from now on, unless the hash is
-- a copy, or another's claim that is not old.
-- KEYS: hash. ARGV: nonce, since, when a claim is old (microseconds), for how long
-- it is kept (seconds), lineage.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if copy(ARGV[2]) then
  return 0
end
if ours(ARGV[2]) and STATE == 'c' then
  local age = now - struct.unpack('>I8', M, 30)
  -- A clock that was set back keeps nobody out.
  if age >= 0 and age < tonumber(ARGV[3]) then
    return 0
  end
end
redis.call('DEL', KEY)
redis.call('HSET', KEY, 'm', 'c' .. LINEAGE .. ARGV[2] .. ARGV[1] .. struct.pack('>I8', now))
redis.call('EXPIRE', KEY, ARGV[4])
return 1
