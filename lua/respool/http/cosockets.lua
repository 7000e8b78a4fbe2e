-- SPDX-License-Identifier: MIT
--
-- Connections within nginx: cosockets, which wait without blocking, and
-- nginx's own pools of them. Times go by operation there, so each is given
-- what is left. Host names need a `resolver`, https needs
-- `lua_ssl_trusted_certificate`. For what the functions mean, see
-- respool/http/sockets.lua.

local now = require "respool.http.loop".now

local M = {}

local IDLE, IDLE_MOST = 55, 64 -- seconds and connections, of one pool
local CHUNK = 16384

local Cosocket = {}
Cosocket.__index = Cosocket

local function left(till)
  return math.max(math.ceil((till - now()) * 1000), 1)
end

local function limit(socket, till)
  local ms = left(till)
  socket:settimeouts(ms, ms, ms)
end

function Cosocket:send(bytes, till)
  limit(self.socket, till)
  local ok, message = self.socket:send(bytes)
  return ok and true, message
end

function Cosocket:read(till)
  limit(self.socket, till)
  local bytes, message = self.socket:receiveany(CHUNK)
  return bytes, message
end

function Cosocket:keep()
  self.socket:setkeepalive(IDLE * 1000, IDLE_MOST)
end

function Cosocket:close()
  self.socket:close()
end

local Pool = {}
Pool.__index = Pool

-- The name of the pool tells hosts apart, and what is secure.
local function cosocket(ngx, url, till)
  local socket = ngx.socket.tcp()
  limit(socket, till)
  local host = url.host:find ":" and "[" .. url.host .. "]" or url.host
  local ok, message = socket:connect(host, url.port, {
    pool = url.scheme .. "://" .. url.authority,
  })
  if not ok then return nil, message end
  return socket
end

function Pool:connect(url, till, fresh)
  local socket, message = cosocket(self.ngx, url, till)
  if not socket then return nil, message end
  local reused = socket:getreusedtimes() > 0
  if reused and fresh then
    socket:close()
    return self:connect(url, till, fresh)
  end
  if url.scheme == "https" and not reused then
    local ok, problem = socket:sslhandshake(nil, url.host, true)
    if not ok then return nil, "TLS: " .. tostring(problem) end
  end
  return setmetatable({ socket = socket, reused = reused }, Cosocket)
end

-- Nothing to check: it is all there. Nothing to close: nginx does.
function Pool.check() end
function Pool.close() end


---@return table
function M.pool()
  return setmetatable({ ngx = rawget(_G, "ngx") }, Pool)
end

return M
