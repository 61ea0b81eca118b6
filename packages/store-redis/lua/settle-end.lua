--[[
  The end of a session that a timer brought about was heard: it need not be told again.

  KEYS[1]  end         hash  {s<client id>}:end
  KEYS[2]  ended-subs  hash
  ARGV[1]  incarnation that ended

  O(1). Twice is the same as once.
]]
local ending = redis.call('HMGET', KEYS[1], 'op', 'incarnation')
if ending[1] == 'timer' and ending[2] == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('UNLINK', KEYS[2])
end
return 0
