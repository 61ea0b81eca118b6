--[[
  Adds and removes facts of one bucket and logs what changed, in order.

  KEYS[1]  facts   hash    shoal:{f<bucket>}:facts, fact -> value
  KEYS[2]  log     stream  shoal:{f<bucket>}:log, one entry for each change:
                           f  fact,  c  '+<value>' or '-',  p  id of the entry before it ('0-0' for none)
  ARGV[1]  changes that the log must keep
  ARGV[2 * n], ARGV[2 * n + 1]  fact and '+<value>' or '-', at most 500 of them

  Returns the id of the last entry of the log: who has read up to there knows all of these facts.

  A reader that stands at `p` of the next entry has missed nothing; any other has, because the log was trimmed, or
  because Redis came back with another past. What is there already, or gone already, is not logged: running the script
  twice is the same as once. The log grows before the hash changes, because Redis that is out of memory refuses the
  first of them that grows. O(changes).
]]
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local previous = last and last[1] or '0-0'
for i = 2, #ARGV, 2 do
  local fact, change = ARGV[i], ARGV[i + 1]
  local present = redis.call('HGET', KEYS[1], fact)
  local value = change ~= '-' and string.sub(change, 2)
  if present ~= value then
    previous = redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*',
      'f', fact, 'c', change, 'p', previous)
    if value then
      redis.call('HSET', KEYS[1], fact, value)
    else
      redis.call('HDEL', KEYS[1], fact)
    end
  end
end
return previous
