-- SPDX-License-Identifier: MIT
--
-- A server that answers every request with the same bytes, whatever they are:
-- a process of its own. It notes what it gets.

local helper = require "spec.helper"

local M = {}

local SERVER = [=[
local socket = require "socket"
local host, stays, file = arg[1], arg[2] == "stays", arg[3]
local handle = assert(io.open(file, "rb"))
local bytes = handle:read "*a"
handle:close()
local again = bytes:match "\nAGAIN$" and bytes:gsub("\nAGAIN$", "")
local listener = assert((host == "::1" and socket.tcp6 or socket.tcp4)())
listener:setoption("reuseaddr", true)
assert(listener:bind(host, 0))
assert(listener:listen(64))
print("port " .. select(2, listener:getsockname()))
io.stdout:flush()
local kept = {}
while true do
  local client = listener:accept()
  client:settimeout(5)
  local head, length = {}, 0
  for line in function() return client:receive "*l" end do
    if line == "" then break end
    head[#head + 1] = line
    length = tonumber(line:match "^[Cc]ontent%-[Ll]ength: (%d+)") or length
  end
  if length > 0 then client:receive(length) end
  print("request " .. table.concat(head, "|"))
  io.stdout:flush()
  if again then
    repeat until not client:send(again)
  end
  client:send(bytes)
  if stays then kept[#kept + 1] = client else client:close() end
end
]=]

local Server = {}
Server.__index = Server

-- Starts one; it is ended after the spec. `how`: host; stays: the connection
-- is not closed; again: the bytes are sent for ever.
---@param bytes string
---@param how { host: string?, stays: boolean?, again: boolean? }?
function M.start(bytes, how)
  how = how or {}
  local file = helper.dir() .. "/answer"
  helper.write(file, bytes .. (how.again and "\nAGAIN" or ""))
  local host = how.host or "127.0.0.1"
  local process = helper.spawn(SERVER, host, how.stays and "stays" or "ends",
                               file)
  process:expect "port"
  local port = process:output():match "port (%d+)"
  return setmetatable({
    process = process, port = tonumber(port),
    base = ("http://%s:%s"):format(host:find ":" and "[" .. host .. "]"
                                   or host, port),
  }, Server)
end

-- The heads of the requests it got, their lines joined by "|".
function Server:requests()
  local list = {}
  for head in self.process:output():gmatch "request ([^\n]*)" do
    list[#list + 1] = head
  end
  return list
end

return M
