--[[
  Renews the lease of a node and says who else has one. A lease ends at a time of Redis's own clock.

  KEYS[1]  nodes        hash    shoal:{nodes}:nodes, field: <length of id>:<id><incarnation>
                                value: <ends at, ms since 1970> <descriptor>, a lease that is over stays until `bury`
  KEYS[2]  generation   string  shoal:{nodes}:generation
  ARGV[1]  field of the node
  ARGV[2]  <length of id>:<id>, what the fields of all lives of the node begin with
  ARGV[3]  ttl in ms
  ARGV[4]  descriptor
  ARGV[5]  '1': this life of the node has had a lease before, '0': it begins
  ARGV[6]  a random text, the generation if there is none

  Returns { taken, now, generation, master_replid, nodes }:
    taken   1: a later life of the node has a lease, nothing was written and the rest is missing
    nodes   fields and values of the hash, this node's included

  A life that begins ends the lease of every other life of that node: it was restarted. One that had a lease and finds
  another life with one was replaced while it was paused or cut off, and has to end.

  O(nodes). Twice is the same as once. `master_replid` comes from here so that it names the server that was written to.
]]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local nodes = redis.call('HGETALL', KEYS[1])
local former = {}
for i = 1, #nodes, 2 do
  if nodes[i] ~= ARGV[1] and string.sub(nodes[i], 1, #ARGV[2]) == ARGV[2] then
    if tonumber(string.match(nodes[i + 1], '^%d+')) > now then
      if ARGV[5] == '1' then return { 1 } end
      former[#former + 1] = i
    end
  end
end
redis.call('SET', KEYS[2], ARGV[6], 'NX')
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', now + tonumber(ARGV[3]), ARGV[4]))
for _, i in ipairs(former) do
  redis.call('HSET', KEYS[1], nodes[i], (string.gsub(nodes[i + 1], '^%d+', '0')))
end
local replication = redis.call('INFO', 'replication')
return {
  0,
  string.format('%.0f', now),
  redis.call('GET', KEYS[2]),
  string.match(replication, 'master_replid:(%x+)') or '',
  redis.call('HGETALL', KEYS[1]),
}
