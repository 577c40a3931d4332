-- Writes modes that nobody else has changed since they were read, and tells of each that it wrote.
-- KEYS[1]: their hash. ARGV: the channel, bytes of a value at most; then four for each rule: its
-- name; what is expected in its place: 'none', 'long' (a value beyond the bound) or 'text'; that
-- text; the new value.
-- Returns for each rule 1 where it was written, else what is there: the value, 0 for none, 2 for
-- one beyond the bound. Where the key is no hash, that is its type alone. Those who listen are told
-- all the same, and also where Redis takes no more, for one of the changes may be a demotion.
local kind = redis.call('TYPE', KEYS[1]).ok
local storable = kind == 'hash' or kind == 'none'
local value_max = tonumber(ARGV[2])
local answers, refusal = {}, nil
for at = 3, #ARGV, 4 do
  local name, expected, text, value = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local told = name .. '\n' .. value
  if not storable then
    redis.call('PUBLISH', ARGV[1], told)
  else
    local found, current = 'text', ''
    if redis.call('HEXISTS', KEYS[1], name) == 0 then
      found = 'none'
    elseif redis.call('HSTRLEN', KEYS[1], name) > value_max then
      found = 'long'
    else
      current = redis.call('HGET', KEYS[1], name)
    end
    if found == expected and (found ~= 'text' or current == text) then
      local set = redis.pcall('HSET', KEYS[1], name, value)
      if type(set) == 'table' and set.err then
        refusal = set
      end
      redis.call('PUBLISH', ARGV[1], told)
      answers[#answers + 1] = 1
    elseif found == 'none' then
      answers[#answers + 1] = 0
    elseif found == 'long' then
      answers[#answers + 1] = 2
    else
      answers[#answers + 1] = current
    end
  end
end
if not storable then
  return kind
end
return refusal or answers
