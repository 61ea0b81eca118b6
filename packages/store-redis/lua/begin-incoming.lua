--[[
  Stores the uid of a QoS 2 PUBLISH under its packet id, unless one is stored.

  KEYS[1]  session   hash
  KEYS[2]  incoming  hash  packet id -> p or d (pending, done), then the uid
  ARGV[1]  incarnation
  ARGV[2]  token
  ARGV[3]  packet id
  ARGV[4]  uid

  Returns 0 when the token is not the owner, otherwise what is stored. O(1). Twice is the same as once.
]]
if not owns(KEYS[1], ARGV[1], ARGV[2]) then return 0 end
redis.call('HSETNX', KEYS[2], ARGV[3], 'p' .. ARGV[4])
return redis.call('HGET', KEYS[2], ARGV[3])
