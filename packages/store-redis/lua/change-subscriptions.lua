--[[
  Removes, then adds and replaces subscriptions of a session.

  KEYS[1]  session  hash
  KEYS[2]  subs     hash  filter -> options
  ARGV[1]  incarnation
  ARGV[2]  token
  ARGV[3]  number of filters to remove, which follow; then filter and options of those to add

  Returns 1, or 0 when the token is not the owner. O(filters). Twice is the same as once.
]]
if not owns(KEYS[1], ARGV[1], ARGV[2]) then return 0 end
local added_from = 4 + tonumber(ARGV[3])
for i = 4, added_from - 1 do redis.call('HDEL', KEYS[2], ARGV[i]) end
for i = added_from, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return 1
