-- Decides requests of one principal by its policies, KEYS: each request all or
-- nothing, in their order. The arithmetic is that of rule/*.rs and call.rs.
--
-- ARGV: the time (empty: the server's); for each key its kind, three numbers, and
-- the tokens to put back; for each run of equal requests their count, whether to
-- charge by force (1), and the cost for each key.
-- Replies for each run the count that was granted, and for each key what is left,
-- the wait (-1: for ever) and the time until all is there again.
--
-- Times are those of now.lua.
-- Written down: 12 or, with a debt, d12 (rate), q<slice>:<counts> (quota),
-- l<moments> (log), b12 (blocked until).
local RATE, QUOTA = 1, 2
local MOST = 4294967295

-- The most frequent call by far, one run of one rate, without what the rest needs.
-- It has its place here for its speed alone: what follows decides the same.
if #ARGV == 9 and ARGV[2] == '1' and ARGV[6] == '0' and ARGV[8] == '0' then
  local text = call('GET', KEYS[1])
  local full = text and tonumber(text) or now
  local interval, tolerance = tonumber(ARGV[3]), tonumber(ARGV[4])
  local count, cost = tonumber(ARGV[7]), tonumber(ARGV[9])
  local furthest = now + tolerance
  if full <= furthest and cost > 0 and not (text and not tonumber(text)) then
    full = math.max(full, now)
    local step = interval * cost
    local granted = math.min(count, math.floor(math.floor((furthest - full) / interval) / cost))
    if granted > 0 then
      full = full + step * granted
      call(
        'SET', KEYS[1], string.format('%.0f', full),
        'PX', string.format('%.0f', math.max(math.ceil((full - now) / 1000), 1))
      )
    end
    local wait = step > tolerance and -1 or math.max(full + step - furthest, 0)
    return { granted, math.floor((furthest - full) / interval), wait, full - now }
  end
end

local at = 1
local function number()
  at = at + 1
  return tonumber(ARGV[at])
end

local function whole(value)
  return string.format('%.0f', value)
end

local function see(key, text)
  local mark, rest = false, ''
  if text then
    mark, rest = string.match(text, '^(%a?)(.*)$')
  end
  if mark == 'b' and tonumber(rest) > now then
    key.blocked = tonumber(rest)
  elseif key.kind == RATE then
    local full, debt = now, false
    if mark == '' or mark == 'd' then
      full = tonumber(rest)
      debt = mark == 'd' and full > now + key.b
    end
    local furthest = now + key.b * (debt and 2 or 1)
    key.pulled = full > furthest
    key.debt = debt
    key.full = math.min(math.max(full, now), furthest)
  elseif key.kind == QUOTA then
    key.slice = math.floor(now / key.b)
    key.counts = {}
    for i = 1, key.c + 1 do
      key.counts[i] = 0
    end
    if mark == 'q' then
      local last, list = string.match(rest, '^(%d+):(.*)$')
      local gone = math.max(key.slice - tonumber(last), 0)
      key.pulled = tonumber(last) > key.slice
      local place = gone
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
          key.moments[#key.moments + 1] = math.min(last, now)
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
    return math.max(math.floor((key.b - (key.full - now)) / key.a), 0)
  elseif key.kind == QUOTA then
    return math.max(key.a - sum(key), 0)
  end
  return math.max(key.a - #key.moments, 0)
end

local function add(key, tokens)
  if key.blocked then
    return
  elseif key.kind == RATE then
    key.full = math.min(key.full + key.a * tokens, now + 2 * key.b)
    key.debt = key.full > now + key.b
  elseif key.kind == QUOTA then
    key.counts[1] = math.min(key.counts[1] + tokens, MOST)
  else
    for _ = 1, math.min(tokens, 2 * key.a - #key.moments) do
      key.moments[#key.moments + 1] = now
    end
  end
end

local function give_back(key, tokens)
  if key.blocked then
    return
  elseif key.kind == RATE then
    key.full = math.max(key.full - key.a * tokens, now)
    key.debt = key.debt and key.full > now + key.b
  elseif key.kind == QUOTA then
    for i = #key.counts, 1, -1 do
      local back = math.min(tokens, key.counts[i])
      key.counts[i] = key.counts[i] - back
      tokens = tokens - back
    end
  else
    for _ = 1, math.min(tokens, #key.moments) do
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
    wait = math.max(key.full + key.a * cost - now - key.b, 0)
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

local keys = {}
local stored = call('MGET', unpack(KEYS))
for i = 1, #KEYS do
  local key = { kind = number(), a = number(), b = number(), c = number() }
  local back = number()
  see(key, stored[i])
  if back > 0 then
    give_back(key, back)
    key.changed = true
  end
  keys[i] = key
end

local reply = {}
while at < #ARGV do
  local count, force, costs = number(), number() == 1, {}
  local granted = count
  for i, key in ipairs(keys) do
    costs[i] = number()
    if not force and costs[i] > 0 then
      granted = math.min(granted, math.floor(room(key) / costs[i]))
    end
  end
  reply[#reply + 1] = granted
  for i, key in ipairs(keys) do
    if costs[i] > 0 then
      if granted > 0 then
        add(key, costs[i] * granted)
        key.changed = true
      end
      -- Denied requests write nothing, unless what was stored cannot be: then the
      -- wait that is told would never come true.
      if granted < count and key.pulled and room(key) < costs[i] then
        key.changed = true
      end
    end
    local left, wait, reset = status(key, costs[i])
    reply[#reply + 1] = left
    reply[#reply + 1] = wait
    reply[#reply + 1] = reset
  end
end

for i, key in ipairs(keys) do
  if key.changed then
    local _, _, reset = status(key, 0)
    if reset > 0 then
      call('SET', KEYS[i], written(key), 'PX', whole(math.max(math.ceil(reset / 1000), 1)))
    else
      call('DEL', KEYS[i])
    end
  end
end
return reply
