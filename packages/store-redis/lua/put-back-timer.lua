--[[
  A client id that was taken was looked at.

  KEYS[1]  timers  zset  {t<bucket>}:timers
  ARGV[1]  encoded client id
  ARGV[2]  the time that take-timers.lua gave it
  ARGV[3]  when somebody must look again, in ms; '' for never

  Does nothing when somebody has set another time meanwhile. O(log n). Twice is the same as once.
]]
local set = redis.call('ZSCORE', KEYS[1], ARGV[1])
if set and tonumber(set) == tonumber(ARGV[2]) then
  if ARGV[3] == '' then
    redis.call('ZREM', KEYS[1], ARGV[1])
  else
    redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
  end
end
return 0
