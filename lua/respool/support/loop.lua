-- SPDX-License-Identifier: MIT
--
-- Tasks: coroutines that wait for events and for moments, in one thread. A
-- task runs until it waits; step() runs those whose wait is over. Where events
-- come from is for `poll` to know: requests (respool/http/client.lua) or
-- sockets (respool/server/sockets.lua). Times are those of core.mono, in
-- seconds.

local compat = require "respool.support.compat"
local core = require "respool.core"

local M = {}

---@class respool.loop
---@field sleeping table<thread, number> until when each task waits
---@field asked table<any, thread> the task that waits for each event
local Loop = {}
Loop.__index = Loop

local loops = setmetatable({}, { __mode = "k" }) -- by task

-- Seconds since some moment, whatever the wall clock does.
---@return number
function M.now()
  return core.mono() / 1e6
end
local now = M.now

---@param poll fun(loop: respool.loop, seconds: number) waits for events
--- for up to so long, and wakes the tasks that wait for them
---@return respool.loop
function M.new(poll)
  return setmetatable({ sleeping = {}, asked = {}, poll = poll }, Loop)
end

-- The loop whose task is running; nil outside tasks.
---@return respool.loop?
function M.current()
  local task = compat.task()
  return task and loops[task]
end

local function resume(loop, task, ...)
  loop.sleeping[task] = nil
  local ok, err = coroutine.resume(task, ...)
  if not ok then error(err, 0) end
end

-- Runs f(...) as a task, until it waits for the first time.
function Loop:spawn(f, ...)
  local task = coroutine.create(f)
  loops[task] = self
  resume(self, task, ...)
end

-- In a task: waits until a moment, or until wake() is called for the task.
-- Returns the arguments of wake(), or nil and "timeout".
---@param till number? never
function Loop:sleep(till)
  self.sleeping[compat.task()] = till
  return coroutine.yield()
end

-- In a task: waits until `event` is given to happen(), or until a moment.
function Loop:await(event, till)
  self.asked[event] = compat.task()
  return self:sleep(till)
end

-- Goes on with a task that waits.
---@param task thread
function Loop:wake(task, ...)
  resume(self, task, ...)
end

-- Goes on with the task that waits for an event, if one does.
function Loop:happen(event, ...)
  local task = self.asked[event]
  self.asked[event] = nil
  if task then resume(self, task, ...) end
end

-- Waits for up to `seconds` until a wait is over, and runs the tasks whose
-- wait is. An error of a task is raised.
---@param seconds number
function Loop:step(seconds)
  local till, due = now() + seconds, {}
  for _, moment in pairs(self.sleeping) do till = math.min(till, moment) end
  self:poll(math.max(till - now(), 0))
  till = now()
  for task, moment in pairs(self.sleeping) do
    if moment <= till then due[#due + 1] = task end
  end
  for _, task in ipairs(due) do
    if self.sleeping[task] then resume(self, task, nil, "timeout") end
  end
end

return M
