-- Claims KEYS[1]. ARGV: owner (eight bytes, zero: nobody), how long it is held and
-- how long a fence without a value is kept (milliseconds), the server's lineage.
-- Replies the record, the milliseconds that another claim has to go, and the time.
local key, owner = KEYS[1], ARGV[1]
local hold, ttl, lineage = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]

local record = redis.pcall('GET', key)
if not ours(record) or part(record, 12) ~= lineage then
  record = head(next_fence(record), lineage, ZERO)
  redis.call('SET', key, record, 'PX', ttl)
elseif #record == HEAD then
  redis.call('PEXPIRE', key, ttl, 'GT')
end

local wait = 0
if owner ~= ZERO then
  local holder, till = part(record, 28), number(record, 36)
  if holder ~= ZERO and holder ~= owner and till > now then
    wait = math.ceil((till - now) / 1000)
  else
    redis.call('SETRANGE', key, 28, owner .. pack(now + hold * 1000))
  end
end
return {record, wait, string.format('%.0f', now)}
