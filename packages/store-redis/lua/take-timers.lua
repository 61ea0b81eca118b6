--[[
  Takes client ids that are due. They stay, due again in a while, in case the taker dies.

  KEYS[1]  timers  zset  {t<bucket>}:timers
  ARGV[1]  clock offset in ms
  ARGV[2]  at most so many
  ARGV[3]  ms until they are due again
  ARGV[4]  '1': this call was sent before, and may have taken some that its sender does not know of

  Sent again it takes those too that were taken in that time: looking once more at what somebody else took does nothing.

  Returns { time at which they are due again, encoded client id ... }. O(log n) for each.
]]
local now = now_ms(ARGV[1])
local again = decimal(now + tonumber(ARGV[3]))
local until_ms = ARGV[4] == '1' and again or decimal(now)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', until_ms, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do redis.call('ZADD', KEYS[1], again, id) end
return { again, unpack(due) }
