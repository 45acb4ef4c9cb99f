-- Reads a session in each of several hashes.
-- KEYS: hashes. ARGV: the session's id in each.
-- Gives of each in turn `m`, the record, the secret before and who acts. A key of
-- another type has none of them.
local found = {}
for nth = 1, #KEYS do
  local id = ARGV[nth]
  local values = redis.pcall('HMGET', KEYS[nth], 'm', id, 'o' .. id, 'a' .. id)
  for field = 1, 4 do
    found[4 * nth - 4 + field] = values[field] or false
  end
end
return found
