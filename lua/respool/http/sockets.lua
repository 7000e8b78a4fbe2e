-- SPDX-License-Identifier: MIT
--
-- Connections, the seam between HTTP and what carries it. A connection has
--
--   send(bytes, till)      true, or nil and why
--   read(till)             some bytes, or nil and why: "closed", "timeout"
--   keep()                 back to the pool: the next may use it
--   close()
--   reused                 whether it comes from the pool
--
-- and a pool has connect(url, till, fresh), check(url), close(). Here they are
-- luasocket's: a task of a loop lets others run while it waits, anyone else
-- blocks. Within nginx they are cosockets: see respool/http/cosockets.lua.
-- `till` is a time of loop.now().

local loop_of = require "respool.http.loop"
local tls = require "respool.http.tls"

local now = loop_of.now

local M = {}

local IDLE = 55         -- seconds that an unused connection is kept
local IDLE_MOST = 64    -- of them, to whatever hosts
local SLICE = 0.2       -- a blocking wait lets Ctrl-C through so often
local CHUNK = 16384
local REMEMBER = 30     -- seconds that an address is remembered
local HOSTS_MOST = 1000 -- of which one is


-- Connections.

local Connection = {}
Connection.__index = Connection

-- Waits as Loop:wait does, in a task or not.
local function wait(socket, kind, till)
  local loop = loop_of.current()
  if loop then return loop:wait(socket, kind, till) end
  local sockets, select = { socket }, require "socket".select
  while true do
    local left = till - now()
    if left <= 0 then return nil, "timeout" end
    local reads, writes = select(kind == "read" and sockets or nil,
                                 kind == "write" and sockets or nil,
                                 math.min(left, SLICE))
    if reads[1] or writes[1] then return true end
  end
end

-- What to wait for before the same is tried again; nil when it failed.
local WANTED = {
  read = { timeout = "read", wantread = "read", wantwrite = "write" },
  write = { timeout = "write", wantread = "read", wantwrite = "write" },
}

-- A connected socket as a connection.
---@param socket table of luasocket or LuaSec
---@param pool table? that keep() gives it back to
---@param key string?
function M.wrap(socket, pool, key)
  socket:settimeout(0)
  return setmetatable({ socket = socket, pool = pool, key = key,
                        reused = false }, Connection)
end

function Connection:send(bytes, till)
  local at = 1
  while true do
    local last, message, partial = self.socket:send(bytes, at)
    if last then return true end
    local kind = WANTED.write[message]
    if not kind then return nil, message end
    at = math.max(at, (partial or 0) + 1)
    local ok, problem = wait(self.socket, kind, till)
    if not ok then return nil, problem end
  end
end

function Connection:read(till)
  while true do
    local bytes, message, partial = self.socket:receive(CHUNK)
    bytes = bytes or partial
    if bytes and #bytes > 0 then return bytes end
    local kind = WANTED.read[message]
    if not kind then return nil, message end
    local ok, problem = wait(self.socket, kind, till)
    if not ok then return nil, problem end
  end
end

-- No more is sent.
function Connection:finish()
  self.socket:shutdown "send"
end

function Connection:close()
  self.socket:close()
end

-- The one that has been idle longest makes room.
function Connection:keep()
  local idle = self.pool.idle
  if #idle >= IDLE_MOST then table.remove(idle, 1):close() end
  self.since = now()
  idle[#idle + 1] = self
end

-- One that has something to say was closed by the other side, or is out of
-- step.
local function is_quiet(connection)
  local bytes, message, partial = connection.socket:receive(1)
  return not bytes and WANTED.read[message] ~= nil and #(partial or "") == 0
end


-- Pools.

local Pool = {}
Pool.__index = Pool

local function close_old(idle)
  while idle[1] and now() - idle[1].since >= IDLE do
    table.remove(idle, 1):close()
  end
end

-- The connection last used of those that are still good.
local function from_idle(pool, key)
  local idle = pool.idle
  close_old(idle)
  for i = #idle, 1, -1 do
    local connection = idle[i]
    if connection.key == key then
      table.remove(idle, i)
      connection.reused = true
      if is_quiet(connection) then return connection end
      connection:close()
    end
  end
end

-- Addresses of a host; asking for them blocks.
local function resolve(pool, host)
  local known = pool.addresses[host]
  if known and now() - known.at < REMEMBER then return known.list end
  local list, message = require "socket".dns.getaddrinfo(host)
  if not list then return nil, "resolve: " .. tostring(message) end
  if not known then pool.hosts = pool.hosts + 1 end
  if pool.hosts > HOSTS_MOST then pool.addresses, pool.hosts = {}, 1 end
  pool.addresses[host] = { list = list, at = now() }
  return list
end

-- A socket that select() can wait for.
local function open_socket(address)
  local luasocket = require "socket"
  local socket, message = (address.family == "inet6" and luasocket.tcp6
                           or luasocket.tcp4)()
  if not socket then return nil, message end
  if socket:getfd() < loop_of.MOST_SOCKETS then return socket end
  socket:close()
  return nil, ("too many open files: a socket must be among the first %d")
    :format(loop_of.MOST_SOCKETS)
end

local function connect_to(address, port, till)
  local socket, message = open_socket(address)
  if not socket then return nil, message end
  socket:settimeout(0)
  local ok
  ok, message = socket:connect(address.addr, port)
  if not ok and message == "timeout" then
    ok, message = wait(socket, "write", till)
    if ok then message = socket:getoption "error" end
    ok = ok and message == nil
  end
  if ok then
    socket:setoption("tcp-nodelay", true)
    return socket
  end
  socket:close()
  return nil, message
end

-- Tries address after address, each with its share of the time.
local function connect_any(pool, url, till)
  local list, message = resolve(pool, url.host)
  if not list then return nil, message end
  for i, address in ipairs(list) do
    local share = (till - now()) / (#list - i + 1)
    local socket
    socket, message = connect_to(address, url.port, now() + share)
    if socket then return socket end
  end
  return nil, message or "resolve: no address"
end

-- A connection to the host of a URL.
---@param url respool.http.url
---@param till number
---@param fresh boolean? not one that was used before
function Pool:connect(url, till, fresh)
  local key = url.scheme .. "://" .. url.authority
  local connection = not fresh and from_idle(self, key)
  if connection then return connection end
  local socket, message = connect_any(self, url, till)
  if not socket then return nil, message end
  if url.scheme == "https" then
    socket, message = tls.wrap(socket, url.host, self.cafile, wait, till)
    if not socket then return nil, message end
  end
  return M.wrap(socket, self, key)
end

-- Raises when a URL cannot be asked here.
---@param url respool.http.url
function Pool.check(_, url)
  loop_of.luasocket()
  if url.scheme == "https" then tls.check() end
end

-- Closes what is idle.
function Pool:close()
  for _, connection in ipairs(self.idle) do connection:close() end
  self.idle = {}
end


-- Connections as this place has them.
---@param o { cafile: string? }
function M.pool(o)
  if rawget(_G, "ngx") then return require "respool.http.cosockets".pool() end
  return setmetatable({ idle = {}, addresses = {}, hosts = 0,
                        cafile = o.cafile }, Pool)
end

return M
