-- A process shows itself. KEYS: the board, a hash of the era and of schemas, each
-- <usable from>:<values live until>; and the processes, a ZSET by the time of what
-- each has seen of the board. ARGV: origin, the time it has seen (0: nothing yet),
-- how long a view of the board is relied on and how long a silent process counts
-- (microseconds), channel, message, and for each of its schemas the name and how
-- long values live (microseconds).
-- Replies the time, the era, and for each schema its name and how long its users
-- have yet to stay away (microseconds).
--
-- A schema that is new may be used once every process has seen it, or cannot rely
-- any more on a view from before. Until then an invalidation might not reach it.
local board, processes = KEYS[1], KEYS[2]
local origin, seen = ARGV[1], tonumber(ARGV[2])
local valid, silent = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function whole(value)
  return string.format('%.0f', value)
end

redis.call('ZREMRANGEBYSCORE', processes, '-inf', whole(now - silent))
redis.call('ZADD', processes, whole(seen > 0 and math.min(seen, now) or now), origin)
redis.call('PEXPIRE', processes, math.ceil(silent / 1000))

local others = redis.call('ZCARD', processes) > 1
local era = redis.call('HGET', board, 'era')
if not era then
  era = whole(now)
  redis.call('HSET', board, 'era', era)
end

local function read(name)
  local from, till = string.match(redis.call('HGET', board, name) or '', '^(%d+):(%d+)$')
  from, till = tonumber(from), tonumber(till)
  if till and till >= now then
    return from, till
  end
end

for at = 7, #ARGV - 1, 2 do
  local name, lives = 's:' .. ARGV[at], tonumber(ARGV[at + 1])
  local from, till = read(name)
  if not from then
    from, till = others and now + valid or now, 0
  end
  redis.call('HSET', board, name, whole(from) .. ':' .. whole(math.max(till, now + lives)))
end

local oldest = redis.call('ZRANGE', processes, 0, 0, 'WITHSCORES')
local all_saw = tonumber(oldest[2]) or 0
local reply, last = {whole(now), era}, now
for _, name in ipairs(redis.call('HKEYS', board)) do
  if name ~= 'era' then
    local from, till = read(name)
    if not from then
      redis.call('HDEL', board, name)
    else
      -- It was entered so long before it may be used.
      local usable = from <= now or all_saw >= from - valid
      reply[#reply + 1] = string.sub(name, 3)
      reply[#reply + 1] = whole(usable and 0 or from - now)
      last = math.max(last, till)
    end
  end
end
redis.call('PEXPIRE', board, math.ceil((last - now) / 1000) + 60000)
redis.call('PUBLISH', ARGV[5], ARGV[6])
return reply
