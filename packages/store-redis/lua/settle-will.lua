--[[
  Forgets a will that was published.

  KEYS[1]  wills  hash  {s<client id>}:wills
  ARGV[1]  uid

  Does nothing when the will is not known or was not handed out. O(1). Twice is the same as once.
]]
if redis.call('HEXISTS', KEYS[1], 'h' .. ARGV[1]) == 1 then
  redis.call('HDEL', KEYS[1], 'w' .. ARGV[1], 'd' .. ARGV[1], 'h' .. ARGV[1],
    'g' .. ARGV[1])
end
return 0
