-- The fence: whether the connection owns the session, and the session is still this one.
local function owns(session, incarnation, token)
  if token == '' then return false end
  local state = redis.call('HMGET', session, 'incarnation', 'token')
  return state[1] == incarnation and state[2] == token
end
