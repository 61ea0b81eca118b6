--[[
  Stores or clears the retained message of a topic.

  KEYS[1]  retained  hash  topic -> expiry in ms (8 bytes, big endian; 0: never), what it counts for (4 bytes), message
  KEYS[2]  expiries  zset  topics whose message expires, by when
  KEYS[3]  totals    hash  messages and bytes of this bucket
  ARGV[1]  topic
  ARGV[2]  message, '' to clear
  ARGV[3]  what it counts for, in bytes
  ARGV[4]  when it expires, in ms; 0: never
  ARGV[5]  messages that this bucket may have, given what the others have
  ARGV[6]  bytes that they may have

  Returns { kept, messages, bytes }: 1 when it is done, 0 when a limit would be exceeded and nothing was changed.
  O(log n). Twice is the same as once.
]]
local topic, size = ARGV[1], tonumber(ARGV[3])
local old = redis.call('HGET', KEYS[1], topic)
local totals = redis.call('HMGET', KEYS[3], 'messages', 'bytes')
local messages, bytes = tonumber(totals[1] or '0'), tonumber(totals[2] or '0')
local old_bytes = old and struct.unpack('>I4', old, 9) or 0
if ARGV[2] ~= '' then
  local grown_messages = messages + (old and 0 or 1)
  local grown_bytes = bytes - old_bytes + size
  if (not old and grown_messages > tonumber(ARGV[5]))
    or (grown_bytes > tonumber(ARGV[6]) and grown_bytes > bytes) then
    return { 0, messages, bytes }
  end
  local expiry = tonumber(ARGV[4])
  redis.call('HSET', KEYS[1], topic,
    struct.pack('>I4I4I4', math.floor(expiry / 4294967296), expiry % 4294967296, size) .. ARGV[2])
  if expiry > 0 then
    redis.call('ZADD', KEYS[2], ARGV[4], topic)
  elseif old then
    redis.call('ZREM', KEYS[2], topic)
  end
  messages, bytes = grown_messages, grown_bytes
elseif old then
  redis.call('HDEL', KEYS[1], topic)
  redis.call('ZREM', KEYS[2], topic)
  messages, bytes = messages - 1, bytes - old_bytes
else
  return { 1, messages, bytes }
end
redis.call('HSET', KEYS[3], 'messages', messages, 'bytes', bytes)
return { 1, messages, bytes }
