-- Takes back what a process had taken ahead under a rate and not spent: of the
-- tokens as many as the second key admits, a quota of two slices.
--
-- KEYS: the rate's, the quota's. ARGV: the time (empty: the server's), the rate's
-- interval and tolerance, the quota's limit and width, and the tokens. Replies how
-- many were taken. What is written, and how: take.lua.

local function store(key, text, until_then)
  if until_then > now then
    local left = math.max(math.ceil((until_then - now) / 1000), 1)
    call('SET', key, text, 'PX', string.format('%.0f', left))
  else
    call('DEL', key)
  end
end

local mark, rest = string.match(call('GET', KEYS[1]) or '', '^(%a?)(%d+)$')
if mark ~= '' and mark ~= 'd' then
  -- Nothing was taken, or the key is blocked.
  return 0
end
local interval, tolerance = tonumber(ARGV[2]), tonumber(ARGV[3])
local debt = mark == 'd' and tonumber(rest) > now + tolerance
local full = math.min(tonumber(rest), now + tolerance * (debt and 2 or 1))

local limit, width = tonumber(ARGV[4]), tonumber(ARGV[5])
local slice = math.floor(now / width)
local pattern = '^q(%d+):(%d+),(%d+)$'
local last, newest, older = string.match(call('GET', KEYS[2]) or '', pattern)
local gone = last and slice - tonumber(last) or 2
newest, older = tonumber(newest), tonumber(older)
if gone == 1 then
  newest, older = 0, newest
elseif gone > 1 then
  newest, older = 0, 0
end

local tokens = math.min(tonumber(ARGV[6]), math.max(limit - newest - older, 0))
if tokens > 0 then
  full = math.max(full - interval * tokens, now)
  local owes = debt and full > now + tolerance
  store(KEYS[1], (owes and 'd' or '') .. string.format('%.0f', full), full)
  local text = string.format('q%.0f:%.0f,%.0f', slice, newest + tokens, older)
  store(KEYS[2], text, (slice + 2) * width)
end
return tokens
