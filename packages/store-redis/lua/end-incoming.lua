--[[
  PUBREL came: the packet id is free.

  KEYS[1]  session   hash
  KEYS[2]  incoming  hash
  ARGV[1]  incarnation
  ARGV[2]  token
  ARGV[3]  packet id

  Returns 1, or 0 when the token is not the owner. O(1). Twice is the same as once.
]]
if not owns(KEYS[1], ARGV[1], ARGV[2]) then return 0 end
redis.call('HDEL', KEYS[2], ARGV[3])
return 1
