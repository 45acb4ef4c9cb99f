-- Marks ARGV[1] with the text ARGV[3] for ARGV[2] milliseconds, in the hash
-- KEYS[1]; for none takes its mark away. Replies 0 where ARGV[4] are there already.
-- What has ended goes. The hash lives as long as its last mark.
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local key, field, left = KEYS[1], ARGV[1], tonumber(ARGV[2])

local count, last = 0, 0
local all = call('HGETALL', key)
for i = 1, #all, 2 do
  if all[i] ~= 'version' then
    local till = tonumber(string.match(all[i + 1], '^%d+'))
    if till <= now or all[i] == field then
      call('HDEL', key, all[i])
    else
      count = count + 1
      last = math.max(last, till)
    end
  end
end

local fits = 1
if left > 0 then
  if count < tonumber(ARGV[4]) then
    local till = now + left
    call('HSET', key, field, string.format('%.0f', till) .. ' ' .. ARGV[3])
    last = math.max(last, till)
  else
    fits = 0
  end
end
if last == 0 then
  call('DEL', key)
  return fits
end
-- By the time, so that no version comes again after the key was lost.
local version = math.max(time[1] * 1000000 + time[2], (tonumber(call('HGET', key, 'version')) or 0) + 1)
call('HSET', key, 'version', string.format('%.0f', version))
call('PEXPIREAT', key, string.format('%.0f', last))
return fits
