--[[
  The connection ended: its will and the session's expiry begin to run, or the session ends at once.

  KEYS[1] to KEYS[9]  as in claim-session.lua; KEYS[8] and KEYS[9] are those of the incarnation expected
  ARGV[1]  clock offset in ms
  ARGV[2]  token
  ARGV[3]  incarnation expected, '' for no session
  ARGV[4]  '1': the will is discarded
  ARGV[5]  session expiry in seconds, '' for the one that the connection had
  ARGV[6]  entries below this sequence may have been sent
  ARGV[7]  ms in which a will that is handed out must be settled
  ARGV[8]  '1': this call was sent before, and the reply to it is wanted if it ran
  ARGV[9]  '1': the reply to the claim was not heard: what that ended is wanted
  ARGV[10] ms for which the will is not due, and in which any claim of the client id cancels it

  Returns { 'other', incarnation } when the session has another incarnation than the expected one: nothing was done.
  { 'fenced', next due }: the token is not the owner. Otherwise
  { 'ok', wills, ended incarnation, ended subs, next due, incarnation and subs of what the claim ended }, the wills as
  { uid, content }.

  By the connection that released last: changes nothing, and tells of its will again if that was due at once and is
  not settled. O(what it returns).
]]
local keys = session_keys()
local token, expected, again = ARGV[2], ARGV[3], ARGV[8] == '1'
local s = fields_of(keys.session, 'incarnation', 'token', 'released', 'expiry', 'sent_below',
  'will', 'will_uid', 'will_delay', 'pending_will', 'pending_delay', 'claim_ended')

local function wills_of(uid)
  if uid == '' or redis.call('HEXISTS', keys.wills, 'h' .. uid) == 0 then return {} end
  return { will_reply(keys.wills, uid) }
end

-- Whoever ended the session may have died before it had anybody look at what is due.
local function fenced() return { 'fenced', next_due(keys.session, keys.wills) } end

if s.incarnation == '' then
  local ending = fields_of(keys.end_, 'op', 'incarnation', 'will')
  if not again or ending.op ~= token then return fenced() end
  return {
    'ok',
    wills_of(ending.will),
    ending.incarnation,
    redis.call('HGETALL', keys.ended_subscriptions),
    next_due(keys.session, keys.wills),
  }
end
if s.incarnation ~= expected then return { 'other', s.incarnation } end
if s.token ~= token then
  if s.released ~= token then return fenced() end
  local uid = s.pending_delay == '0' and s.pending_will or ''
  return { 'ok', wills_of(uid), '', {}, next_due(keys.session, keys.wills) }
end

local now = now_ms(ARGV[1])
local expiry = ARGV[5] ~= '' and ARGV[5] or s.expiry
local due = expiry ~= '4294967295' and now + tonumber(expiry) * 1000 or nil
local below = math.max(tonumber(s.sent_below),
  math.min(tonumber(ARGV[6]), last_sequence(keys.queue) + 1))
local uid, graced = '', ARGV[10] ~= '0'
if s.will ~= '' and ARGV[4] == '0' then
  uid = s.will_uid
  local will_due = now + tonumber(s.will_delay) * 1000
  if due and due < will_due then will_due = due end
  if graced then
    will_due = math.max(will_due, now + tonumber(ARGV[10]))
    redis.call('HSET', keys.wills, 'g' .. uid, '1')
  end
  redis.call('HSET', keys.wills, 'w' .. uid, s.will, 'd' .. uid, decimal(will_due))
  if will_due <= now then hand_out(keys.wills, uid, token, now, ARGV[7]) end
  -- Not a matter of this session any more.
  if graced then uid = '' end
end
redis.call('HSET', keys.session, 'token', '', 'released', token, 'expiry', expiry,
  'due', due and decimal(due) or '', 'sent_below', decimal(below), 'will', '',
  'pending_will', uid, 'pending_delay', s.will_delay)
local claim_ended, claim_subscriptions = '', {}
if ARGV[9] == '1' and s.claim_ended ~= '' then
  claim_ended = s.claim_ended
  claim_subscriptions = redis.call('HGETALL', keys.ended_subscriptions)
end
local ended, subscriptions = '', {}
if expiry == '0' then
  end_session(keys, s.incarnation, token, 60000)
  redis.call('HSET', keys.end_, 'will', uid)
  ended = s.incarnation
  subscriptions = redis.call('HGETALL', keys.ended_subscriptions)
else
  -- What the claim told of an earlier session was heard.
  redis.call('DEL', keys.end_)
  redis.call('UNLINK', keys.ended_subscriptions)
end
return {
  'ok',
  wills_of(uid),
  ended,
  subscriptions,
  next_due(keys.session, keys.wills),
  claim_ended,
  claim_subscriptions,
}
