-- The head of a record, 44 bytes: a mark, then five numbers of eight bytes each,
-- the highest byte first. What follows is the value, if there is one.
--
--    0 "MXR2"   4 fence   12 lineage   20 version   28 owner   36 held until
--
-- A record of another lineage may lack the last bumps, so it counts as absent;
-- only its fence number is kept below that of the next.
local MARK, HEAD = 'MXR2', 44
local ZERO = string.rep('\0', 8)

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function pack(number)
  return struct.pack('>I8', number)
end

local function number(record, at)
  return struct.unpack('>I8', record, at + 1)
end

local function part(record, at)
  return string.sub(record, at + 1, at + 8)
end

local function ours(record)
  return type(record) == 'string' and #record >= HEAD and string.sub(record, 1, 4) == MARK
end

-- A fence that the key never had: the time, and above the last one.
local function next_fence(record)
  if ours(record) then
    return math.max(now, number(record, 4) + 1)
  end
  return now
end

local function head(fence, lineage, version)
  return MARK .. pack(fence) .. lineage .. version .. ZERO .. ZERO
end
