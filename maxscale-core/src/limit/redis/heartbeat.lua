-- Says that ARGV[1] lives for ARGV[2] milliseconds; replies how many do.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local long = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[1], string.format('%.0f', now + long), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
