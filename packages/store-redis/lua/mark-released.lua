--[[
  PUBREC came for an entry: it must not be sent again.

  KEYS[1]  session   hash  released_count: marks made so far
  KEYS[2]  outgoing  zset  sequence, by the order of the marks
  ARGV[1]  incarnation
  ARGV[2]  token
  ARGV[3]  sequence

  Returns 1, or 0 when the token is not the owner. O(log n). Twice is the same as once.
]]
if not owns(KEYS[1], ARGV[1], ARGV[2]) then return 0 end
if not redis.call('ZSCORE', KEYS[2], ARGV[3]) then
  redis.call('ZADD', KEYS[2], redis.call('HINCRBY', KEYS[1], 'released_count', 1), ARGV[3])
end
return 1
