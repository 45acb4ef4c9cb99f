-- Attempts at an account: KEYS are those of one client, those of all strangers, and
-- the mark of a client that succeeded. The arithmetic is that of attempts/bucket.rs.
--
-- ARGV: the time (empty: the server's); for the client its limit, window, first and
-- longest wait; for strangers the limit and the window; how long a mark lasts; what
-- to do, and for that:
--   begin: how long a stranger has to wait anyway. Replies 1, the moment that is
--     reserved and whether the client is known, or 0 and the wait.
--   fail: nothing. Replies the wait until the next.
--   succeed, back: the moment, and whether the client was known. Replies 0.
--
-- Written down: f<failures>:<until>:<moments>. Times are those of now.lua.
local DOUBLINGS = 40

local function whole(value)
  return string.format('%.0f', value)
end

local function see(bucket)
  bucket.moments, bucket.failures, bucket.till = {}, 0, 0
  local failures, till, list = string.match(bucket.text or '', '^f(%d+):(%d+):(.*)$')
  if failures then
    bucket.failures, bucket.till = tonumber(failures), tonumber(till)
    for moment in string.gmatch(list, '%d+') do
      moment = tonumber(moment)
      if moment > now - bucket.window then
        bucket.changed = bucket.changed or moment > now
        bucket.moments[#bucket.moments + 1] = math.min(moment, now)
      end
    end
  end
  if bucket.till + bucket.window <= now then
    bucket.failures, bucket.till = 0, 0
  end
  bucket.changed = bucket.changed or bucket.till > now + bucket.longest
  bucket.till = math.min(bucket.till, now + bucket.longest)
  return bucket
end

local function wait_of(bucket)
  local wait = math.max(bucket.till - now, 0)
  local over = #bucket.moments - bucket.limit
  if over >= 0 then
    wait = math.max(wait, bucket.moments[over + 1] + bucket.window - now)
  end
  return wait
end

local function give_back(bucket, moment)
  for i, at in ipairs(bucket.moments) do
    if at == moment then
      table.remove(bucket.moments, i)
      bucket.changed = true
      return
    end
  end
end

local function keep(bucket)
  if not bucket.changed then
    return
  end
  local over_at = bucket.failures > 0 and bucket.till + bucket.window or 0
  local moments = {}
  for i, moment in ipairs(bucket.moments) do
    moments[i] = whole(moment)
    over_at = math.max(over_at, moment + bucket.window)
  end
  if over_at <= now then
    call('DEL', bucket.key)
    return
  end
  local text = { 'f', whole(bucket.failures), ':', whole(bucket.till), ':', table.concat(moments, ',') }
  call('SET', bucket.key, table.concat(text), 'PX', whole(math.ceil((over_at - now) / 1000)))
end

local stored = call('MGET', unpack(KEYS))
local pair = see({
  key = KEYS[1], text = stored[1], limit = tonumber(ARGV[2]), window = tonumber(ARGV[3]),
  base = tonumber(ARGV[4]), longest = tonumber(ARGV[5]),
})
local strangers = see({
  key = KEYS[2], text = stored[2], limit = tonumber(ARGV[6]), window = tonumber(ARGV[7]),
  longest = 0,
})
local known, verb = stored[3] and true or false, ARGV[9]
local reply

if verb == 'begin' then
  local wait = wait_of(pair)
  if not known then
    wait = math.max(wait, wait_of(strangers), tonumber(ARGV[10]))
  end
  if wait > 0 then
    reply = { 0, wait }
  else
    table.insert(pair.moments, now)
    pair.changed = true
    if not known then
      table.insert(strangers.moments, now)
      strangers.changed = true
    end
    reply = { 1, now, known and 1 or 0 }
  end
elseif verb == 'fail' then
  pair.failures = math.min(pair.failures + 1, DOUBLINGS + 1)
  local backoff = math.min(pair.base * 2 ^ (pair.failures - 1), pair.longest)
  pair.till = math.max(pair.till, now + backoff)
  pair.changed = true
  reply = { wait_of(pair) }
else
  local moment = tonumber(ARGV[10])
  give_back(pair, moment)
  if ARGV[11] == '0' then
    give_back(strangers, moment)
  end
  if verb == 'succeed' then
    pair.changed = pair.changed or pair.failures > 0 or pair.till > 0
    pair.failures, pair.till = 0, 0
    call('SET', KEYS[3], 1, 'PX', whole(math.ceil(tonumber(ARGV[8]) / 1000)))
  end
  reply = { 0 }
end
keep(pair)
keep(strangers)
return reply
