--[[
  Removes expired retained messages of a bucket, and says what it holds.

  KEYS[1] to KEYS[3]  as in retain-message.lua
  ARGV[1]  now, in ms, by the clock that messages expire by
  ARGV[2]  at most so many

  Returns { messages, bytes, topics that went }. O(log n) for each. Twice is the same as once, but for the topics: with a
  reply that is lost they are.
]]
local totals = redis.call('HMGET', KEYS[3], 'messages', 'bytes')
local messages, bytes = tonumber(totals[1] or '0'), tonumber(totals[2] or '0')
local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, topic in ipairs(expired) do
  local old = redis.call('HGET', KEYS[1], topic)
  if old then
    messages, bytes = messages - 1, bytes - struct.unpack('>I4', old, 9)
    redis.call('HDEL', KEYS[1], topic)
  end
  redis.call('ZREM', KEYS[2], topic)
end
if #expired > 0 then redis.call('HSET', KEYS[3], 'messages', messages, 'bytes', bytes) end
return { messages, bytes, expired }
