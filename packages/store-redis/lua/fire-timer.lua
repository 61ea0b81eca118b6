--[[
  Does what time asks of one client id: hands out wills that are due, and ends the session if it has expired.

  KEYS[1] to KEYS[9]  as in claim-session.lua; KEYS[8] and KEYS[9] are those of the incarnation expected
  ARGV[1]  clock offset in ms
  ARGV[2]  incarnation expected, '' for no session
  ARGV[3]  wills to hand out, at most
  ARGV[4]  ms in which a will that is handed out must be settled
  ARGV[5]  operation id of this call
  ARGV[6]  '1': this call was sent before, and the reply to it is wanted if it ran

  Returns { 'other', incarnation } when the session has another incarnation than the expected one: nothing was done.
  Otherwise { 'ok', wills, ended incarnation, ended subs, next due }, the wills as { uid, content }.

  The end of a session is told again until `end` is deleted. O(what it returns + wills of the client id). Twice is the
  same as once.
]]
local keys = session_keys()
local s = fields_of(keys.session, 'incarnation', 'token', 'due')
local ending = fields_of(keys.end_, 'op', 'incarnation')
if s.incarnation ~= ARGV[2] then
  -- Unless it is this very call that ended it.
  local own = s.incarnation == '' and ARGV[6] == '1' and ending.op == 'timer'
    and ending.incarnation == ARGV[2]
  if not own then return { 'other', s.incarnation } end
end
local now = now_ms(ARGV[1])
local wills = {}
local entries = redis.call('HGETALL', keys.wills)
for i = 1, #entries, 2 do
  if #wills >= tonumber(ARGV[3]) then break end
  if string.sub(entries[i], 1, 1) == 'd' then
    local uid = string.sub(entries[i], 2)
    if tonumber(entries[i + 1]) <= now
      or (ARGV[6] == '1' and redis.call('HGET', keys.wills, 'h' .. uid) == ARGV[5]) then
      hand_out(keys.wills, uid, ARGV[5], now, ARGV[4])
      wills[#wills + 1] = will_reply(keys.wills, uid)
    end
  end
end
if s.incarnation ~= '' and s.token == '' and s.due ~= ''
  and tonumber(s.due) <= now then
  end_session(keys, s.incarnation, 'timer', 86400000)
end
local ended, subscriptions = '', {}
ending = fields_of(keys.end_, 'op', 'incarnation')
if ending.op == 'timer' then
  ended = ending.incarnation
  subscriptions = redis.call('HGETALL', keys.ended_subscriptions)
end
return { 'ok', wills, ended, subscriptions, next_due(keys.session, keys.wills) }
