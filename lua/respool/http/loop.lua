-- SPDX-License-Identifier: MIT
--
-- Tasks: coroutines that wait for sockets and for moments, in one thread, by
-- luasocket's select. A task runs until it waits; step() runs those whose
-- wait is over. Times are those of core.mono, in seconds.

local compat = require "respool.support.compat"
local core = require "respool.core"

local M = {}

---@class respool.http.loop
---@field n integer tasks that have not ended
---@field waiting table<thread, respool.http.wait>
local Loop = {}
Loop.__index = Loop

---@class respool.http.wait
---@field socket table? nil: for a moment only
---@field kind "read"|"write"|nil
---@field till number when it is given up, or over

-- select() knows descriptors below this only (FD_SETSIZE).
M.MOST_SOCKETS = 1024

local loops = setmetatable({}, { __mode = "k" }) -- by task

-- luasocket, loaded when first needed; raises when there is none.
---@return table
function M.luasocket()
  local ok, socket = pcall(require, "socket")
  if ok then return socket end
  compat.misuse("HTTP needs luasocket (Debian: lua-socket), "
    .. "which cannot be loaded")
end

-- Seconds since some moment, whatever the wall clock does.
---@return number
function M.now()
  return core.mono() / 1e6
end
local now = M.now

---@return respool.http.loop
function M.new()
  return setmetatable({
    n = 0, waiting = {}, select = M.luasocket().select,
  }, Loop)
end

-- The loop whose task is running; nil outside tasks.
---@return respool.http.loop?
function M.current()
  local task = coroutine.running()
  return task and loops[task]
end

local function resume(loop, task, ...)
  local ok, err = coroutine.resume(task, ...)
  if coroutine.status(task) ~= "dead" then return end
  loop.n = loop.n - 1
  if not ok then error(err, 0) end
end

-- Runs f(...) as a task, until it waits for the first time.
function Loop:spawn(f, ...)
  local task = coroutine.create(f)
  loops[task] = self
  self.n = self.n + 1
  resume(self, task, ...)
end

-- In a task: waits until the socket can be read or written. Nil and
-- "timeout" when it cannot by `till`.
---@param socket table
---@param kind "read"|"write"
---@param till number
---@return true?, string?
function Loop:wait(socket, kind, till)
  local task = coroutine.running()
  self.waiting[task] = { socket = socket, kind = kind, till = till }
  return coroutine.yield()
end

-- In a task: waits until a moment.
---@param till number
function Loop:sleep(till)
  self.waiting[coroutine.running()] = { till = till }
  coroutine.yield()
end

-- In a task: waits until wake() is called for it. Returns what that is given.
---@return any ...
function Loop.park()
  return coroutine.yield()
end

-- Goes on with a task that is parked.
---@param task thread
function Loop:wake(task, ...)
  resume(self, task, ...)
end

-- Which sockets are waited for, and when the first wait is over.
local function gather(loop, till)
  local reads, writes = {}, {}
  for _, wait in pairs(loop.waiting) do
    local list = wait.kind == "read" and reads or writes
    list[#list + 1] = wait.socket -- none: it waits for a moment only
    till = math.min(till, wait.till)
  end
  return reads, writes, till
end

-- Tasks to go on, with whether their socket is ready.
local function due(loop, readable, writable)
  local list, time = {}, now()
  for task, wait in pairs(loop.waiting) do
    local sockets = wait.kind == "read" and readable or writable
    local ready = wait.socket and sockets[wait.socket]
    if ready or wait.till <= time then
      list[#list + 1] = { task, ready }
    end
  end
  return list
end

-- Waits for up to `seconds` until a wait is over, and runs the tasks whose
-- wait is. `listener`, a socket, ends the waiting too: true when it has
-- something to accept. An error of a task is raised.
---@param seconds number
---@param listener table?
---@return boolean
function Loop:step(seconds, listener)
  local reads, writes, till = gather(self, now() + seconds)
  reads[#reads + 1] = listener
  local readable, writable = self.select(reads, writes,
                                         math.max(till - now(), 0))
  for _, found in ipairs(due(self, readable, writable)) do
    local task, ready = found[1], found[2]
    self.waiting[task] = nil
    if ready then
      resume(self, task, true)
    else
      resume(self, task, nil, "timeout")
    end
  end
  return listener ~= nil and readable[listener] ~= nil
end

return M
