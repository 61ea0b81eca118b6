-- What the scripts share that begin and end sessions.

-- Fields as a table; a field that is not there is ''.
local function fields_of(key, ...)
  local values = redis.call('HMGET', key, ...)
  local fields = {}
  for i, name in ipairs({ ... }) do fields[name] = values[i] or '' end
  return fields
end

-- The sequence of the last entry that the queue ever had; 0 for no queue.
local function last_sequence(queue)
  if redis.call('EXISTS', queue) == 0 then return 0 end
  local info = redis.call('XINFO', 'STREAM', queue)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      return tonumber(string.match(info[i + 1], '%-(%d+)$'))
    end
  end
  return 0
end

-- Hands out a will: from now on its publisher, who has it by `op`, has the lease time to settle it.
local function hand_out(wills, uid, op, now, lease)
  redis.call('HSET', wills, 'h' .. uid, op, 'd' .. uid, decimal(now + tonumber(lease)))
end

-- The time at which somebody has to look at this client id again, '' for never.
local function next_due(session, wills)
  local next = nil
  local entries = redis.call('HGETALL', wills)
  for i = 1, #entries, 2 do
    if string.sub(entries[i], 1, 1) == 'd' then
      local due = tonumber(entries[i + 1])
      if next == nil or due < next then next = due end
    end
  end
  local state = redis.call('HMGET', session, 'token', 'due')
  if state[1] == '' and state[2] and state[2] ~= '' then
    local due = tonumber(state[2])
    if next == nil or due < next then next = due end
  end
  return next and decimal(next) or ''
end

-- Ends the session. Its end and its subscriptions stay for a while under `op`, so that the reply can be given again.
local function end_session(keys, incarnation, op, keep_ms)
  redis.call('DEL', keys.end_)
  redis.call('UNLINK', keys.ended_subscriptions)
  redis.call('HSET', keys.end_, 'op', op, 'incarnation', incarnation)
  if redis.call('EXISTS', keys.subscriptions) == 1 then
    redis.call('RENAME', keys.subscriptions, keys.ended_subscriptions)
  end
  if keep_ms > 0 then
    redis.call('PEXPIRE', keys.end_, keep_ms)
    redis.call('PEXPIRE', keys.ended_subscriptions, keep_ms)
  end
  redis.call('UNLINK', keys.session, keys.outgoing, keys.incoming, keys.queue, keys.seen)
end

-- KEYS[1] to KEYS[9] of the scripts that may end a session.
local function session_keys()
  return {
    session = KEYS[1],
    subscriptions = KEYS[2],
    outgoing = KEYS[3],
    incoming = KEYS[4],
    wills = KEYS[5],
    end_ = KEYS[6],
    ended_subscriptions = KEYS[7],
    queue = KEYS[8],
    seen = KEYS[9],
  }
end

-- Uid, content and username of a will as a reply.
local function will_reply(wills, uid)
  return { uid, redis.call('HGET', wills, 'w' .. uid) }
end
