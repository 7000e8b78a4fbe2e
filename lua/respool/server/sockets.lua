-- SPDX-License-Identifier: MIT
--
-- Connections of the server: sockets of luasocket, for which the tasks of a
-- loop wait by select().

local compat = require "respool.support.compat"
local loop_of = require "respool.support.loop"

local M = {}

local CHUNK = 16384

-- select() knows descriptors below this only (FD_SETSIZE).
M.MOST = 1024

-- luasocket, loaded when first needed; raises when there is none.
---@return table
function M.luasocket()
  local ok, socket = pcall(require, "socket")
  if ok then return socket end
  compat.misuse("receiving by HTTP needs luasocket (Debian: lua-socket), "
    .. "which cannot be loaded")
end

-- The poll of a loop whose tasks wait for sockets. `loop.listener` ends the
-- waiting, too; `loop.heard` says whether it has something to accept.
---@param loop respool.loop
---@param seconds number
function M.poll(loop, seconds)
  local reads, writes = { loop.listener }, {}
  for wait in pairs(loop.asked) do
    local list = wait.writes and writes or reads
    list[#list + 1] = wait.socket
  end
  local readable, writable = M.luasocket().select(reads, writes, seconds)
  local over = {}
  for wait in pairs(loop.asked) do
    local found = wait.writes and writable or readable
    if found[wait.socket] then over[#over + 1] = wait end
  end
  loop.heard = loop.listener ~= nil and readable[loop.listener] ~= nil
  for _, wait in ipairs(over) do loop:happen(wait, true) end
end

---@class respool.server.connection
local Connection = {}
Connection.__index = Connection

---@param socket table
---@return respool.server.connection
function M.wrap(socket)
  socket:settimeout(0)
  socket:setoption("tcp-nodelay", true)
  return setmetatable({ socket = socket }, Connection)
end

local function wait(connection, writes, till)
  local loop = loop_of.current()
  local event = { socket = connection.socket, writes = writes }
  local ready = loop:await(event, till)
  loop.asked[event] = nil
  return ready
end

-- Sends all; or nil and why.
---@param bytes string
---@param till number
function Connection:send(bytes, till)
  local at = 1
  while true do
    local last, why, partial = self.socket:send(bytes, at)
    if last then return true end
    if why ~= "timeout" then return nil, why end
    at = math.max(at, (partial or 0) + 1)
    if not wait(self, true, till) then return nil, "timeout" end
  end
end

-- Some bytes; or nil and why: "closed", "timeout".
---@param till number
---@return string?, string?
function Connection:read(till)
  while true do
    local bytes, why, partial = self.socket:receive(CHUNK)
    bytes = bytes or partial
    if bytes and #bytes > 0 then return bytes end
    if why ~= "timeout" then return nil, why end
    if not wait(self, false, till) then return nil, "timeout" end
  end
end

-- No more is sent.
function Connection:finish()
  self.socket:shutdown "send"
end

function Connection:close()
  self.socket:close()
end

return M
