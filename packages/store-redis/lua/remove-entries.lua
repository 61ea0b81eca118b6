--[[
  Takes entries out of a queue that the client has, with the marks of those whose PUBREC came.

  KEYS[1]  session   hash
  KEYS[2]  queue     stream
  KEYS[3]  outgoing  zset
  ARGV[1]  incarnation
  ARGV[2]  token; 'nobody': only while there is no owner, and only entries that were never sent
  ARGV[3]  generation of the store
  ARGV[4...]  sequences, in any order, at most 1,000

  Returns 1, or 0 when the token is not the owner. O(sequences). Twice is the same as once.
]]
local state = redis.call('HMGET', KEYS[1], 'incarnation', 'token', 'counted', 'bytes', 'sent_below')
local nobody = ARGV[2] == 'nobody'
local token = nobody and '' or ARGV[2]
if (token == '' and not nobody) or state[1] ~= ARGV[1] or state[2] ~= token then return 0 end
if nobody then
  local sent_below = tonumber(state[5] or '1')
  for i = #ARGV, 4, -1 do
    if tonumber(ARGV[i]) < sent_below then table.remove(ARGV, i) end
  end
end
local counted, bytes = tonumber(state[3] or '0'), tonumber(state[4] or '0')
local ids = {}
local counting = {}
local unmet, first, last = 0, math.huge, 0
for i = 4, #ARGV do
  local id, sequence = ARGV[3] .. '-' .. ARGV[i], tonumber(ARGV[i])
  ids[#ids + 1] = id
  if sequence <= counted and not counting[id] then
    counting[id] = true
    unmet = unmet + 1
    first, last = math.min(first, sequence), math.max(last, sequence)
  end
end
-- A client takes what comes in order: mostly one range has them all. Entries in between that stay are few, or the rest
-- is looked up one by one.
local freed = 0
if unmet > 0 then
  local from, to = string.format('%s-%.0f', ARGV[3], first), string.format('%s-%.0f', ARGV[3], last)
  local limit = 2 * unmet
  local range = redis.call('XRANGE', KEYS[2], from, to, 'COUNT', limit)
  for _, entry in ipairs(range) do
    if counting[entry[1]] then
      freed = freed + entry_bytes(entry)
      counting[entry[1]] = nil
    end
  end
  if #range == limit then
    for id in pairs(counting) do
      local found = redis.call('XRANGE', KEYS[2], id, id)[1]
      if found then freed = freed + entry_bytes(found) end
    end
  end
end
if #ids == 0 then return 1 end
redis.call('XDEL', KEYS[2], unpack(ids))
if freed > 0 then redis.call('HSET', KEYS[1], 'bytes', bytes - freed) end
if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('ZREM', KEYS[3], unpack(ARGV, 4)) end
return 1
