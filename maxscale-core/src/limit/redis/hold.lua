-- Gives or renews places of KEYS[1], a ZSET of holders and until when.
--
-- ARGV: the time (empty: the server's), how many places there are, the lease in
-- microseconds, and the holders, each <its lease>:<who>. One that has a place keeps
-- it for another lease, one that has none gets it if there is room.
-- Replies the time until the next lease runs out, and for each holder 1 or 0.
--
-- Times are those of now.lua.

local function whole(value)
  return string.format('%.0f', value)
end

local most, lease = tonumber(ARGV[2]), tonumber(ARGV[3])
local key = KEYS[1]
local changed = false

call('ZREMRANGEBYSCORE', key, '-inf', whole(now))
-- After a clock was set back, no lease is longer than one that begins now.
for _, holder in ipairs(call('ZRANGEBYSCORE', key, '(' .. whole(now + lease), '+inf')) do
  local own = tonumber(string.match(holder, '^%d+'))
  call('ZADD', key, 'XX', 'LT', whole(now + own), holder)
end

local held = call('ZCARD', key)
local reply = { 0 }
for i = 4, #ARGV do
  local there = call('ZSCORE', key, ARGV[i])
  local kept = there or held < most
  if kept then
    call('ZADD', key, whole(now + lease), ARGV[i])
    held = there and held or held + 1
    changed = true
  end
  reply[#reply + 1] = kept and 1 or 0
end

local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
if first[2] then
  reply[1] = first[2] - now
end
if changed then
  local last = call('ZRANGE', key, -1, -1, 'WITHSCORES')
  call('PEXPIRE', key, whole(math.ceil((last[2] - now) / 1000)))
end
return reply
