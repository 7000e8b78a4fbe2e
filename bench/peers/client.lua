-- SPDX-License-Identifier: MIT
--
-- One client of bench/peers.lua, a process of its own:
--
--   lua bench/peers/client.lua PEER ADDRESS GROUP BEGIN SECONDS
--
-- From the time BEGIN on it pushes a group of items of 100 bytes, takes as
-- many and acknowledges them, again and again; prints how many, and how many
-- seconds that took.

local socket = require "socket"
local clients = require "bench.peers.clients"

local peer, address = arg[1], arg[2]
local group, begin, seconds = tonumber(arg[3]), tonumber(arg[4]),
  tonumber(arg[5])
local pid = io.open("/proc/self/stat"):read "n"
local pushed = 0

local function bodies()
  local list = {}
  for i = 1, group do
    pushed = pushed + 1
    list[i] = ("%010d%010d"):format(pid, pushed) .. ("x"):rep(80)
  end
  return list
end

-- Others may take what this client has pushed: there is as much of theirs.
local function live(c)
  c.push(bodies())
  local left = group
  while left > 0 do
    local tokens = c.take(left)
    left = left - #tokens
    if #tokens > 0 then c.done(tokens) end
  end
  return group
end

local c = clients[peer](address, group)
live(c)
socket.sleep(math.max(begin - socket.gettime(), 0))
local from, n = socket.gettime(), 0
repeat n = n + live(c) until socket.gettime() >= from + seconds
print(n, socket.gettime() - from)
