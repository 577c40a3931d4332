-- Takes the lease, or prolongs it for whoever holds it.
-- KEYS[1]: the lease. ARGV: the token of who asks, milliseconds.
-- Returns 1 where it is held now, 0 where another holds it, -1 where the key is no lease.
local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'table' then
  return -1
end
-- A lease always ends by itself: what does not was put there by something else.
if not holder or redis.call('PTTL', KEYS[1]) == -1 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
return 0
