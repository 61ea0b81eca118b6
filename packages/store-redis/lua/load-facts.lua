--[[
  The place that the log of one bucket has come to, how many facts stand for it, and the facts if they are few.

  KEYS[1]  facts   hash    shoal:{f<bucket>}:facts
  KEYS[2]  log     stream  shoal:{f<bucket>}:log
  ARGV[1]  facts to return at most

  Returns { id of the last entry of the log ('0-0' for none), number of facts, facts and values or nothing if they are
  more }. O(ARGV[1]). Reads only.
]]
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local count = redis.call('HLEN', KEYS[1])
return {
  last and last[1] or '0-0',
  count,
  count <= tonumber(ARGV[1]) and redis.call('HGETALL', KEYS[1]) or {},
}
