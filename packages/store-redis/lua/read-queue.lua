--[[
  Reads entries of a queue in order.

  KEYS[1]  session  hash
  KEYS[2]  queue    stream
  ARGV[1]  incarnation
  ARGV[2]  token; 'nobody': only while there is no owner, and only entries that were never sent
  ARGV[3]  generation of the store
  ARGV[4]  sequence from which on
  ARGV[5]  entries, at most
  ARGV[6]  bytes after which it stops; one entry is returned at least when there is one

  Returns 0 when the token is not the owner, otherwise { dropped below, id, message, id, message ... }; entries below that
  sequence were dropped at the bound. O(entries returned).
]]
local left, bytes_left = tonumber(ARGV[5]), tonumber(ARGV[6])
local from = ARGV[3] .. '-' .. ARGV[4]
if ARGV[2] == 'nobody' then
  local sent_below = unowned(KEYS[1], ARGV[1])
  if not sent_below then return 0 end
  if tonumber(ARGV[4]) < tonumber(sent_below) then from = ARGV[3] .. '-' .. sent_below end
elseif not owns(KEYS[1], ARGV[1], ARGV[2]) then
  return 0
end
local result = { redis.call('HGET', KEYS[1], 'dropped_below') or '1' }
while left > 0 do
  -- A few at a time: a thousand entries of a megabyte are not to be copied to find that one is enough.
  local wanted = math.min(left, 16)
  local entries = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', wanted)
  for _, entry in ipairs(entries) do
    bytes_left = bytes_left - entry_bytes(entry)
    if bytes_left < 0 and #result > 1 then return result end
    result[#result + 1] = entry[1]
    result[#result + 1] = entry[2][2]
  end
  if #entries < wanted then return result end
  left = left - wanted
  from = '(' .. entries[#entries][1]
end
return result
