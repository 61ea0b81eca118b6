--[[
  All facts of one bucket, and the place in its log that they stand for.

  KEYS[1]  facts   hash    shoal:{f<bucket>}:facts
  KEYS[2]  log     stream  shoal:{f<bucket>}:log

  Returns { id of the last entry of the log ('0-0' for none), facts and values }. O(facts of the bucket). Reads only.
]]
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
return { last and last[1] or '0-0', redis.call('HGETALL', KEYS[1]) }
