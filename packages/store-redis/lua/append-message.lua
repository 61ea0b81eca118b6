--[[
  Appends to the queue of a session within its bounds, exactly; the native XADD is for queues that are far from them.

  KEYS[1]  session  hash    counted: entries up to this sequence are in `bytes`; dropped_below: none from there on was dropped
  KEYS[2]  queue    stream  one field m: the encoded message
  KEYS[3]  seen     hash    uids that were appended and not settled -> sequence
  ARGV[1]  generation of the store
  ARGV[2]  message
  ARGV[3]  what it counts for, in bytes
  ARGV[4]  uid, '' for none
  ARGV[5]  entries that the queue may have, '' when it is known to be far from its bounds: nothing is looked at
  ARGV[6]  bytes that they may have
  ARGV[7]  '1': the oldest go at the bound; '0': the new one is refused
  ARGV[8]  '1': this call was sent before, and the reply to it is wanted if it ran

  Returns { 'gone' }, { 'duplicate' }, { 'full', entries, bytes } or { 'kept', entries, bytes, sequence, dropped }; the
  entries and bytes of a queue that was not looked at are ''.

  With a uid, twice is the same as once; a call that is sent again learns the sequence, but not what it dropped. Counts at most 1,000 entries that were appended natively and drops at most
  1,000: a queue that is further out than that is brought back by the next calls.
]]
local CALL_MAX = 1000
local queue, uid, size = KEYS[2], ARGV[4], tonumber(ARGV[3])
local count_max, bytes_max, drop = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
if redis.call('EXISTS', queue) == 0 then return { 'gone' } end
local known = uid ~= '' and redis.call('HGET', KEYS[3], uid)
if known and ARGV[8] == '0' then return { 'duplicate' } end

if ARGV[5] == '' then
  if not known then
    known = sequence_of(redis.call('XADD', queue, ARGV[1] .. '-*', 'm', ARGV[2]))
    if uid ~= '' then redis.call('HSET', KEYS[3], uid, known) end
  end
  return { 'kept', '', '', tonumber(known), 0 }
end

local count = redis.call('XLEN', queue)
local state = redis.call('HMGET', KEYS[1], 'counted', 'bytes')
local counted, bytes = tonumber(state[1] or '0'), tonumber(state[2] or '0')
if known then return { 'kept', count, bytes, tonumber(known), 0 } end
local tail = redis.call('XRANGE', queue, '(' .. ARGV[1] .. '-' .. counted, '+', 'COUNT', CALL_MAX)
for _, entry in ipairs(tail) do bytes = bytes + entry_bytes(entry) end
if #tail > 0 then counted = sequence_of(tail[#tail][1]) end

if size > bytes_max or count_max < 1
  or (not drop and (count + 1 > count_max or bytes + size > bytes_max)) then
  redis.call('HSET', KEYS[1], 'counted', counted, 'bytes', bytes)
  return { 'full', count, bytes }
end

local id = redis.call('XADD', queue, ARGV[1] .. '-*', 'm', ARGV[2])
local sequence = sequence_of(id)
if uid ~= '' then redis.call('HSET', KEYS[3], uid, sequence) end
count = count + 1
-- While some before it are not counted, it is counted with them, later.
if #tail < CALL_MAX then
  counted = sequence
  bytes = bytes + size
end
local dropped, dropped_below = 0, 0
while (count > count_max or bytes > bytes_max) and dropped < CALL_MAX do
  local chunk = math.max(1, math.min(count - count_max, 64))
  for _, entry in ipairs(redis.call('XRANGE', queue, '-', '+', 'COUNT', chunk)) do
    redis.call('XDEL', queue, entry[1])
    if sequence_of(entry[1]) <= counted then bytes = bytes - entry_bytes(entry) end
    count = count - 1
    dropped = dropped + 1
    dropped_below = sequence_of(entry[1]) + 1
  end
end
redis.call('HSET', KEYS[1], 'counted', counted, 'bytes', bytes)
if dropped > 0 then redis.call('HSET', KEYS[1], 'dropped_below', string.format('%.0f', dropped_below)) end
return { 'kept', count, bytes, sequence, dropped }
