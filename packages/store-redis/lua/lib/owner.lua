-- The fence: whether the connection owns the session, and the session is still this one.
local function owns(session, incarnation, token)
  if token == '' then return false end
  local state = redis.call('HMGET', session, 'incarnation', 'token')
  return state[1] == incarnation and state[2] == token
end

-- For those who act for nobody: entries of the queue below this sequence may have been sent. `nil` when the session has
-- an owner or is another one.
local function unowned(session, incarnation)
  local state = redis.call('HMGET', session, 'incarnation', 'token', 'sent_below')
  if state[1] ~= incarnation or state[2] ~= '' then return nil end
  return state[3] or '1'
end
