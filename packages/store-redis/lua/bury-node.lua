--[[
  Forgets a node whose lease is over; one that renewed it meanwhile stays.

  KEYS[1]  nodes  hash  shoal:{nodes}:nodes, see renew-lease.lua
  ARGV[1]  field of the node

  Returns 1 when the node is not known any more, 0 when it lives. O(1). Twice is the same as once.
]]
local node = redis.call('HGET', KEYS[1], ARGV[1])
if not node then return 1 end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if tonumber(string.match(node, '^%d+')) > now then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
