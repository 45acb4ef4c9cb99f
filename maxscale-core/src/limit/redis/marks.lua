-- All marks in the hash KEYS[1]: name, milliseconds left, text; see mark.lua.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reply = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local till, text = string.match(all[i + 1], '^(%d+) (.*)$')
  if till and tonumber(till) > now then
    reply[#reply + 1] = all[i]
    reply[#reply + 1] = tonumber(till) - now
    reply[#reply + 1] = text
  end
end
return reply
