--[[
  The fan-out of a QoS 2 PUBLISH is complete.

  KEYS[1]  session   hash
  KEYS[2]  incoming  hash  packet id -> p or d (pending, done), then the uid
  ARGV[1]  incarnation
  ARGV[2]  token
  ARGV[3]  packet id

  Returns 1, or 0 when the token is not the owner. O(1). Twice is the same as once.
]]
if not owns(KEYS[1], ARGV[1], ARGV[2]) then return 0 end
local stored = redis.call('HGET', KEYS[2], ARGV[3])
if stored then redis.call('HSET', KEYS[2], ARGV[3], 'd' .. string.sub(stored, 2)) end
return 1
