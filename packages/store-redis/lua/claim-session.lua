--[[
  Makes a connection the owner of a session, which begins if there is none. From here on every consuming write must
  carry `token`: the loser of a takeover may still be alive and writing.

  KEYS[1]   session     hash    {s<client id>}:session
  KEYS[2]   subs        hash    filter -> options
  KEYS[3]   outgoing    zset    sequence of a QoS 2 entry whose PUBREC came, by order
  KEYS[4]   incoming    hash    packet id -> p or d (pending, done), then the uid
  KEYS[5]   wills       hash    w<uid>: content, d<uid>: when it is due (again), h<uid>: who has it, g<uid>: any claim
                                cancels it until it is due
  KEYS[6]   end         hash    op, incarnation: the end of a session, by whom it was made
  KEYS[7]   ended-subs  hash    the subscriptions of that session
  KEYS[8]   queue       stream  of the incarnation expected
  KEYS[9]   seen        hash    of the incarnation expected
  KEYS[10]  queue       stream  of the new incarnation
  ARGV[1]   clock offset in ms
  ARGV[2]   token
  ARGV[3]   incarnation expected, '' for no session
  ARGV[4]   incarnation of the session that may begin
  ARGV[5]   '1': clean start
  ARGV[6]   session expiry in seconds; 4294967295: never
  ARGV[7]   will, '' for none
  ARGV[8]   uid of the will
  ARGV[9]   its delay in seconds
  ARGV[10]  ms in which a will that is handed out must be settled
  ARGV[11]  generation of the store: the first part of the ids in the queue
  ARGV[12]  MQTT version and username, for people who look

  Returns { 'other', incarnation } when the session has another incarnation than the expected one: nothing was done,
  the keys were wrong. Otherwise
  { 'ok', incarnation, present, previous token, ended incarnation, ended subs, subs, incoming, outgoing, sent below,
    wills, next due }, with fields and values of the hashes, and { uid, content } for each will.

  With the token that owns the session already it writes nothing and returns the same. O(what it returns).
]]
local keys = session_keys()
local token, expected, fresh, clean = ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'
local lease, generation = ARGV[10], ARGV[11]
local s = fields_of(keys.session, 'incarnation', 'token', 'expiry', 'due', 'will', 'will_uid',
  'will_delay', 'pending_will', 'claim_wills', 'claim_present', 'claim_previous', 'claim_ended')
if s.incarnation ~= expected then return { 'other', s.incarnation } end

local found = s.incarnation ~= ''
local incarnation, present, previous, ended, due_wills
if found and s.token == token then
  incarnation, present, previous = s.incarnation, s.claim_present, s.claim_previous
  ended, due_wills = s.claim_ended, s.claim_wills
else
  local now = now_ms(ARGV[1])
  local owned = found and s.token ~= ''
  local ends = found
    and (clean
      or (owned and s.expiry == '0')
      or (not owned and s.due ~= '' and tonumber(s.due) <= now))
  local sent_below = 1
  if owned and not ends then sent_below = last_sequence(keys.queue) + 1 end

  due_wills = ''
  local entries = redis.call('HGETALL', keys.wills)
  for i = 1, #entries, 2 do
    if string.sub(entries[i], 1, 1) == 'g' then
      local uid = string.sub(entries[i], 2)
      local graced = fields_of(keys.wills, 'd' .. uid, 'h' .. uid)
      if graced['h' .. uid] == '' then
        if tonumber(graced['d' .. uid]) <= now then
          hand_out(keys.wills, uid, token, now, lease)
          due_wills = uid
        else
          redis.call('HDEL', keys.wills, 'w' .. uid, 'd' .. uid, 'g' .. uid)
        end
      end
    end
  end
  if s.will ~= '' then
    if ends or s.will_delay == '0' then
      redis.call('HSET', keys.wills, 'w' .. s.will_uid, s.will)
      hand_out(keys.wills, s.will_uid, token, now, lease)
      due_wills = s.will_uid
    end
  elseif s.pending_will ~= '' then
    local uid = s.pending_will
    local pending = fields_of(keys.wills, 'd' .. uid, 'h' .. uid)
    if pending['d' .. uid] ~= '' and pending['h' .. uid] == '' then
      if ends or tonumber(pending['d' .. uid]) <= now then
        hand_out(keys.wills, uid, token, now, lease)
        due_wills = uid
      else
        redis.call('HDEL', keys.wills, 'w' .. uid, 'd' .. uid)
      end
    end
  end

  previous, ended, present = s.token, '', '0'
  if ends then
    end_session(keys, s.incarnation, token, 0)
    ended = s.incarnation
  elseif not found and redis.call('HGET', keys.end_, 'op') == 'timer' then
    -- A timer ended the session, and whoever it was told died before they could say that they had heard.
    ended = redis.call('HGET', keys.end_, 'incarnation')
    redis.call('HSET', keys.end_, 'op', token)
    redis.call('PERSIST', keys.end_)
    redis.call('PERSIST', keys.ended_subscriptions)
  else
    redis.call('DEL', keys.end_)
    redis.call('UNLINK', keys.ended_subscriptions)
    if found then present = '1' end
  end
  incarnation = present == '1' and s.incarnation or fresh
  if present == '0' then
    redis.call('HSET', keys.session, 'incarnation', fresh, 'sent_below', '1')
    if ARGV[6] ~= '0' then
      -- The queue must be there, and empty, for appends to find it.
      local first = redis.call('XADD', KEYS[10], generation .. '-0', 'm', '')
      redis.call('XDEL', KEYS[10], first)
    end
  elseif sent_below > 1 then
    redis.call('HSET', keys.session, 'sent_below', decimal(sent_below))
  end
  redis.call('HSET', keys.session, 'token', token, 'released', '', 'expiry', ARGV[6], 'due', '',
    'client', ARGV[12], 'will', ARGV[7], 'will_uid', ARGV[8], 'will_delay', ARGV[9], 'pending_will', '',
    'claim_present', present, 'claim_previous', previous, 'claim_ended', ended,
    'claim_wills', due_wills)
end

local wills = {}
if due_wills ~= '' and redis.call('HEXISTS', keys.wills, 'w' .. due_wills) == 1 then
  wills[1] = will_reply(keys.wills, due_wills)
end
return {
  'ok',
  incarnation,
  present,
  previous,
  ended,
  ended ~= '' and redis.call('HGETALL', keys.ended_subscriptions) or {},
  redis.call('HGETALL', keys.subscriptions),
  redis.call('HGETALL', keys.incoming),
  redis.call('ZRANGE', keys.outgoing, 0, -1),
  redis.call('HGET', keys.session, 'sent_below'),
  wills,
  next_due(keys.session, keys.wills),
}
