-- Reads the modes, within bounds.
-- KEYS[1]: their hash. ARGV: fields at most, bytes of a name at most, bytes of a value at most;
-- then the names that are read alone where there are more fields than that.
-- Returns the type of the key ('none', 'hash' or what it is instead), the number of fields passed
-- over, then names and values; nil for a value that is too long.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' then
  return {kind, 0}
end
local fields_max, name_max, value_max = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local count = redis.call('HLEN', KEYS[1])
local names, passed = nil, 0
if count <= fields_max then
  names = redis.call('HKEYS', KEYS[1])
else
  names = {}
  for at = 4, #ARGV do
    if redis.call('HEXISTS', KEYS[1], ARGV[at]) == 1 then
      names[#names + 1] = ARGV[at]
    end
  end
  passed = count - #names
end
local found = {kind, 0}
for _, name in ipairs(names) do
  if #name > name_max then
    passed = passed + 1
  else
    found[#found + 1] = name
    if redis.call('HSTRLEN', KEYS[1], name) > value_max then
      found[#found + 1] = false
    else
      found[#found + 1] = redis.call('HGET', KEYS[1], name)
    end
  end
end
found[2] = passed
return found
