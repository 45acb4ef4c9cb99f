-- Decides requests of principals by their policies: each request all or nothing,
-- and those of a principal in their order. The arithmetic is that of rule/*.rs and
-- call.rs.
--
-- KEYS: for each principal one for each of its policies.
-- ARGV: the time (empty: the server's); then for principals who differ in their keys
-- alone how many they are, how many policies and how many runs of equal requests
-- each has; for each policy its kind and numbers; for each run its way (admit what
-- fits, charge all, put back all), the count, and the cost for each policy.
-- Replies for each principal, for each run but those that put back, the count that
-- was granted and how each key stands then: of a rate the time until all is there
-- again, of others what is left, the wait (-1: for ever) and that time; of what is
-- blocked minus the time until it is not, without the rest for a rate, with it for
-- others.
--
-- Times are those of now.lua.
-- Written down: 12 or, with a debt, d12 (rate), q<slice>:<counts> (quota),
-- l<moments> (log), b12 (blocked until).
local RATE, QUOTA = 1, 2
local ADMIT, BACK = 0, 2
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max

-- Two short cuts have their place here for their speed alone: the rest decides the
-- same. Numbers go to Redis as they are, which writes integers below 10^17 exactly.
--
-- One run of one rate of one principal, that can be read as a number, is the most
-- frequent call where each principal is asked for alone.
if #ARGV == 10 and #KEYS == 1 and ARGV[5] == '1' and ARGV[8] == '0' then
  local text = call('GET', KEYS[1])
  local full = not text and now or tonumber(text)
  local interval, cost = tonumber(ARGV[6]), tonumber(ARGV[10])
  local furthest = now + tonumber(ARGV[7])
  if full and full <= furthest and cost > 0 then
    full = max(full, now)
    local granted = min(tonumber(ARGV[9]), floor(floor((furthest - full) / interval) / cost))
    if granted > 0 then
      full = full + interval * cost * granted
      call('SET', KEYS[1], full, 'PX', ceil((full - now) / 1000))
    end
    return { granted, full - now }
  end
end

local stored = #KEYS == 1 and { call('GET', KEYS[1]) } or call('MGET', unpack(KEYS))
-- What was said, and where more is to be said.
local reply, said = {}, 0

-- One run of nothing but rates is the most frequent where many are asked for at once.
-- False leaves it to the rest: a key is blocked, owes, or holds what cannot be.
local fulls = {}
local function rates(first, rules, run)
  local granted = run.count
  for i = 1, #rules do
    local rule, text, cost, full = rules[i], stored[first + i], run[i], now
    local furthest = now + rule.b
    if text then
      full = tonumber(text)
      if not full or full > furthest then
        return false
      elseif full < now then
        full = now
      end
    end
    fulls[i] = full
    if cost > 0 then
      local fits = floor(floor((furthest - full) / rule.a) / cost)
      granted = fits < granted and fits or granted
    end
  end
  said = said + 1
  reply[said] = granted
  for i = 1, #rules do
    local ahead, tokens = fulls[i] - now, granted * run[i]
    if tokens > 0 then
      ahead = ahead + rules[i].a * tokens
      call('SET', KEYS[first + i], now + ahead, 'PX', ceil(ahead / 1000))
    end
    said = said + 1
    reply[said] = ahead
  end
  return true
end

local at, first, others = 1, 0, {}
local function number()
  at = at + 1
  return tonumber(ARGV[at])
end

while at < #ARGV do
  local principals, policies, count = number(), number(), number()
  local rules, runs, simple, numbers = {}, {}, count == 1, 1
  for i = 1, policies do
    local rule = { kind = number(), a = number(), b = number() }
    if rule.kind == QUOTA then
      rule.c = number()
    end
    rules[i] = rule
    simple = simple and rule.kind == RATE
    numbers = numbers + (rule.kind == RATE and 1 or 3)
  end
  local answers = 0
  for i = 1, count do
    local run = { way = number(), count = number() }
    for j = 1, policies do
      run[j] = number()
    end
    runs[i] = run
    simple = simple and run.way == ADMIT
    answers = answers + (run.way == BACK and 0 or numbers)
  end
  for _ = 1, principals do
    if not (simple and rates(first, rules, runs[1])) then
      others[#others + 1] = { first = first, said = said, rules = rules, runs = runs }
      for i = said + 1, said + answers do
        reply[i] = 0
      end
      said = said + answers
    end
    first = first + policies
  end
end
if #others == 0 then
  return reply
end

local MOST = 4294967295

local function say(number)
  said = said + 1
  reply[said] = number
end

local function whole(value)
  return string.format('%.0f', value)
end

-- What is none of what is written down counts as nothing.
local function see(key, text)
  local mark, rest = string.match(text or '', '^([bdql]?)([%d:,]*)$')
  local number = tonumber(rest)
  if mark == 'b' and number and number > now then
    key.blocked = number
  elseif key.kind == RATE then
    local full, debt = now, false
    if mark == '' or mark == 'd' then
      full = number or now
      debt = mark == 'd' and full > now + key.b
    end
    local furthest = now + key.b * (debt and 2 or 1)
    key.pulled = full > furthest
    key.debt = debt
    key.full = min(max(full, now), furthest)
  elseif key.kind == QUOTA then
    key.slice = floor(now / key.b)
    key.counts = {}
    for i = 1, key.c + 1 do
      key.counts[i] = 0
    end
    local last, list = string.match(mark == 'q' and rest or '', '^(%d+):(.*)$')
    if last then
      local place = max(key.slice - tonumber(last), 0)
      key.pulled = tonumber(last) > key.slice
      for count in string.gmatch(list, '%d+') do
        place = place + 1
        if place <= key.c + 1 then
          key.counts[place] = tonumber(count)
        end
      end
    end
  else
    key.moments = {}
    if mark == 'l' then
      local last = 0
      for moment in string.gmatch(rest, '%d+') do
        last = tonumber(moment)
        if last > now - key.b then
          key.moments[#key.moments + 1] = min(last, now)
        end
      end
      key.pulled = last > now
    end
  end
end

local function sum(key)
  local total = 0
  for i = 1, #key.counts do
    total = total + key.counts[i]
  end
  return total
end

local function room(key)
  if key.blocked then
    return 0
  elseif key.kind == RATE then
    return max(floor((key.b - (key.full - now)) / key.a), 0)
  elseif key.kind == QUOTA then
    return max(key.a - sum(key), 0)
  end
  return max(key.a - #key.moments, 0)
end

local function add(key, tokens)
  if key.blocked then
    return
  elseif key.kind == RATE then
    key.full = min(key.full + key.a * tokens, now + 2 * key.b)
    key.debt = key.full > now + key.b
  elseif key.kind == QUOTA then
    key.counts[1] = min(key.counts[1] + tokens, MOST)
  else
    for _ = 1, min(tokens, 2 * key.a - #key.moments) do
      key.moments[#key.moments + 1] = now
    end
  end
end

local function give_back(key, tokens)
  if key.blocked then
    return
  elseif key.kind == RATE then
    key.full = max(key.full - key.a * tokens, now)
    key.debt = key.debt and key.full > now + key.b
  elseif key.kind == QUOTA then
    for i = #key.counts, 1, -1 do
      local back = min(tokens, key.counts[i])
      key.counts[i] = key.counts[i] - back
      tokens = tokens - back
    end
  else
    for _ = 1, min(tokens, #key.moments) do
      table.remove(key.moments, 1)
    end
  end
end

-- When what was admitted in the slice at this place is counted no more.
local function leaves(key, place)
  return (key.slice + #key.counts - place + 1) * key.b
end

local function quota_wait(key, cost)
  local needed = sum(key) + cost - key.a
  for place = #key.counts, 1, -1 do
    if needed <= 0 then
      break
    end
    needed = needed - key.counts[place]
    if needed <= 0 then
      return leaves(key, place) - now
    end
  end
  return 0
end

local function status(key, cost)
  local wait, reset = 0, 0
  if key.blocked then
    return 0, key.blocked - now, key.blocked - now
  elseif key.kind == RATE then
    wait = max(key.full + key.a * cost - now - key.b, 0)
    if key.a * cost > key.b then
      wait = -1
    end
    reset = key.full - now
  elseif key.kind == QUOTA then
    wait = cost > key.a and -1 or quota_wait(key, cost)
    for place = 1, #key.counts do
      if key.counts[place] > 0 then
        reset = leaves(key, place) - now
        break
      end
    end
  else
    local needed = #key.moments + cost - key.a
    if cost > key.a then
      wait = -1
    elseif needed > 0 then
      wait = key.moments[needed] + key.b - now
    end
    if #key.moments > 0 then
      reset = key.moments[#key.moments] + key.b - now
    end
  end
  return room(key), wait, reset
end

local function written(key)
  if key.blocked then
    return 'b' .. whole(key.blocked)
  elseif key.kind == RATE then
    return (key.debt and 'd' or '') .. whole(key.full)
  elseif key.kind == QUOTA then
    return 'q' .. whole(key.slice) .. ':' .. table.concat(key.counts, ',')
  end
  local moments = {}
  for i, moment in ipairs(key.moments) do
    moments[i] = whole(moment)
  end
  return 'l' .. table.concat(moments, ',')
end

-- What remains is told by how far ahead a rate is.
local function tell(key, cost)
  local left, wait, reset = status(key, cost)
  if key.kind == RATE then
    say(key.blocked and -reset or reset)
  else
    say(left)
    say(wait)
    say(reset)
  end
end

local function fitting(keys, run)
  local count = run.count
  for i, key in ipairs(keys) do
    if run.way == ADMIT and run[i] > 0 then
      count = min(count, floor(room(key) / run[i]))
    end
  end
  return count
end

local function decide(keys, run)
  local granted = fitting(keys, run)
  say(granted)
  for i, key in ipairs(keys) do
    local cost = run[i]
    if cost > 0 then
      if granted > 0 then
        add(key, cost * granted)
        key.changed = true
      end
      -- Denied requests write nothing, unless what was stored cannot be: then the
      -- wait that is told would never come true.
      if granted < run.count and key.pulled and room(key) < cost then
        key.changed = true
      end
    end
    tell(key, cost)
  end
end

local function put_back(keys, run)
  for i, key in ipairs(keys) do
    if run[i] > 0 then
      give_back(key, run[i])
      key.changed = true
    end
  end
end

local function store(name, key)
  local _, _, reset = status(key, 0)
  if reset > 0 then
    call('SET', name, written(key), 'PX', whole(max(ceil(reset / 1000), 1)))
  else
    call('DEL', name)
  end
end

for _, other in ipairs(others) do
  local keys = {}
  said = other.said
  for i, rule in ipairs(other.rules) do
    keys[i] = { kind = rule.kind, a = rule.a, b = rule.b, c = rule.c }
    see(keys[i], stored[other.first + i])
  end
  for _, run in ipairs(other.runs) do
    if run.way == BACK then
      put_back(keys, run)
    else
      decide(keys, run)
    end
  end
  for i, key in ipairs(keys) do
    if key.changed then
      store(KEYS[other.first + i], key)
    end
  end
end
return reply
