--[[
  Has somebody look at a client id at a time, or earlier if that was set before.

  KEYS[1]  timers  zset  {t<bucket>}:timers, encoded client id by ms since 1970
  ARGV[1]  encoded client id
  ARGV[2]  time in ms

  An earlier time is set back by one ms, so that whoever looks at the client id right now cannot put it off: they did
  not see what this call stands for. Looking too early does nothing but look. O(log n). Twice does no harm.
]]
local set = redis.call('ZSCORE', KEYS[1], ARGV[1])
local due = tonumber(ARGV[2])
if set and tonumber(set) <= due then due = tonumber(set) - 1 end
redis.call('ZADD', KEYS[1], string.format('%.0f', due), ARGV[1])
return 0
