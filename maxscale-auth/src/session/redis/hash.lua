-- What a user's hash is, by its field `m`; see head.rs. Who asks for the lineage
-- gives it as the last argument.
local KEY = KEYS[1]
local LINEAGE = ARGV[#ARGV]
local M = redis.call('HGET', KEY, 'm') or ''
local STATE = string.sub(M, 1, 1)

-- Whether `m` was written under the server's lineage, and under this version of
-- the map.
local function ours(since)
  return #M >= 21 and string.sub(M, 2, 13) == LINEAGE .. since
end

local function copy(since)
  return ours(since) and (STATE == 'w' or STATE == 'p')
end

-- The change that must be known to what is stored under this claim.
local function least()
  return #M >= 45 and struct.unpack('>I8', M, 38) or 0
end
