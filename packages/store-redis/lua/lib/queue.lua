-- What an entry counts for: bytes 2 to 5 of the encoded message.
local function entry_bytes(entry)
  return (struct.unpack('>I4', entry[2][2], 2))
end

local function sequence_of(id)
  return tonumber(string.match(id, '%-(%d+)$'))
end
