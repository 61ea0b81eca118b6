--[[
  Takes client ids that are due. They stay, due again in a while, in case the taker dies.

  KEYS[1]  timers  zset  {t<bucket>}:timers
  ARGV[1]  clock offset in ms
  ARGV[2]  at most so many
  ARGV[3]  ms until they are due again

  Returns { time at which they are due again, encoded client id ... }. O(log n) for each.
]]
local now = now_ms(ARGV[1])
local again = decimal(now + tonumber(ARGV[3]))
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', decimal(now), 'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do redis.call('ZADD', KEYS[1], again, id) end
return { again, unpack(due) }
