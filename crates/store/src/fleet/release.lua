-- Gives the lease back where it is held. KEYS[1]: the lease. ARGV[1]: the token of who held it.
if redis.pcall('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
