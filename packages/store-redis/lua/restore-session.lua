--[[
  Writes the session of a connected client again that Redis has lost.

  KEYS[1]  session   hash
  KEYS[2]  subs      hash
  KEYS[3]  outgoing  zset
  KEYS[4]  incoming  hash
  KEYS[5]  queue     stream of the incarnation
  ARGV[1]  incarnation
  ARGV[2]  token
  ARGV[3]  session expiry in seconds
  ARGV[4]  will, '' for none
  ARGV[5]  uid of the will
  ARGV[6]  its delay in seconds
  ARGV[7]  MQTT version and username
  ARGV[8]  id of the last entry that the queue ever had, '' for a session without one
  ARGV[9]  sequence below which entries may have been sent
  ARGV[10] n, number of subscriptions; then filter and options of each
  ARGV[..] m, number of packet ids of QoS 2 messages that were received; then packet id and what is stored of each
  ARGV[..] sequences of QoS 2 entries whose PUBREC came

  Returns 1, or 0 when another connection owns the session, or it is another session. When this one owns it, its queue at
  most goes on later than it would have, and nothing else is written: so twice is the same as once. O(arguments).
]]
local state = redis.call('HMGET', KEYS[1], 'incarnation', 'token')
if state[1] then
  if state[1] ~= ARGV[1] or state[2] ~= ARGV[2] then return 0 end
  if ARGV[8] ~= '' then
    -- After a roll-back places in the queue would be handed out again that its reader has passed.
    local wanted = tonumber(string.match(ARGV[8], '%-(%d+)$'))
    local info = redis.call('XINFO', 'STREAM', KEYS[5])
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then
        local last = tonumber(string.match(info[i + 1], '%-(%d+)$'))
        if last < wanted then redis.call('XSETID', KEYS[5], ARGV[8]) end
      end
    end
  end
  return 1
end
redis.call('HSET', KEYS[1], 'incarnation', ARGV[1], 'sent_below', ARGV[9], 'token', ARGV[2],
  'released', '', 'expiry', ARGV[3], 'due', '', 'client', ARGV[7], 'will', ARGV[4], 'will_uid', ARGV[5],
  'will_delay', ARGV[6], 'pending_will', '', 'claim_present', '0', 'claim_previous', '',
  'claim_ended', '', 'claim_wills', '')
if ARGV[8] ~= '' then
  redis.call('DEL', KEYS[5])
  local last = redis.call('XADD', KEYS[5], ARGV[8], 'm', '')
  redis.call('XDEL', KEYS[5], last)
end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
local at = 10
local function each_pair(key)
  local count = tonumber(ARGV[at])
  for i = at + 1, at + 2 * count, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
  at = at + 1 + 2 * count
end
each_pair(KEYS[2])
each_pair(KEYS[4])
for i = at, #ARGV do redis.call('ZADD', KEYS[3], i - at + 1, ARGV[i]) end
redis.call('HSET', KEYS[1], 'released_count', #ARGV - at + 1)
return 1
