-- SPDX-License-Identifier: MIT
-- STOMP 1.2, as much of it as a worker script needs: a connection to a broker
-- that is sent messages and read frames from, by luasocket.

local socket = require "socket"

local M = {}
M.__index = M

local ESCAPES = { ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r",
                  [":"] = "\\c" }
local MEANINGS = { ["\\\\"] = "\\", ["\\n"] = "\n", ["\\r"] = "\r",
                   ["\\c"] = ":" }

local function frame(command, headers, body)
  local lines = { command }
  for name, value in pairs(headers) do
    lines[#lines + 1] = name:gsub("[\\\n\r:]", ESCAPES) .. ":"
      .. tostring(value):gsub("[\\\n\r:]", ESCAPES)
  end
  return table.concat(lines, "\n") .. "\n\n" .. (body or "") .. "\0"
end

-- Sends a frame; nil and why when the connection is gone.
function M:send(command, headers, body)
  headers["content-length"] = body and #body
  return self.socket:send(frame(command, headers, body))
end

local function read_body(s, length)
  if length then
    local body, err = s:receive(length + 1)
    return body and body:sub(1, -2), err
  end
  local parts = {}
  repeat
    local byte, err = s:receive(1)
    if not byte then return nil, err end
    parts[#parts + 1] = byte
  until byte == "\0"
  parts[#parts] = nil
  return table.concat(parts)
end

-- The next frame: its command, headers and body; nil and why.
function M:next()
  local line, err
  repeat -- newlines between frames are heart-beats
    line, err = self.socket:receive "*l"
    if not line then return nil, err end
  until line ~= ""
  local command, headers = line, {}
  while true do
    line, err = self.socket:receive "*l"
    if not line then return nil, err end
    if line == "" then break end
    local name, value = line:match "^([^:]*):(.*)$"
    headers[name] = headers[name] or value:gsub("\\.", MEANINGS)
  end
  local body
  body, err = read_body(self.socket, tonumber(headers["content-length"]))
  if not body then return nil, err end
  return command, headers, body
end

function M:close()
  self.socket:close()
end

-- Connects; nil and why.
function M.connect(o)
  local s, err = socket.tcp()
  if not s then return nil, err end
  s:settimeout(o.timeout)
  local ok
  ok, err = s:connect(o.host, o.port)
  if not ok then
    s:close()
    return nil, err
  end
  local self = setmetatable({ socket = s }, M)
  local command, headers
  ok, err = s:send(frame("CONNECT", {
    ["accept-version"] = "1.2", host = o.vhost, login = o.login,
    passcode = o.passcode,
  }))
  if ok then command, headers = self:next() end
  if command == "CONNECTED" then return self end
  s:close()
  return nil, command and headers.message or headers or err
end

return M
