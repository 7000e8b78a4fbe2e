-- SPDX-License-Identifier: MIT
--
-- Ending light threads. ngx_lua knows a coroutine that waits, in ngx.sleep
-- say, only by the light thread that resumed it: neither ngx.thread.kill nor
-- the end of a whole timer takes that wait back, and when it is over memory
-- that is freed is resumed, which crashes the process. A light thread whose
-- coroutine runs has the status "normal". So such a one is not killed, and a
-- timer is not ended while there is any in the process, as nobody can tell
-- whose it is.
--
-- ngx.exit in a timer ends all of its light threads, a supervisor's too. In a
-- timer that is guarded it raises instead.

local core = require "respool.core"

core.home(debug.getinfo(1, "S").source)

local M = {}

local MARK = {} -- a key of ngx.ctx

local REFUSAL = "ngx.exit would end all consumers: raise an error, or return"

-- A function that raises in a guarded timer, at this level of the stack.
local function guarded(fn, level)
  return function(...)
    if ngx.get_phase() == "timer" and ngx.ctx[MARK] then
      error(REFUSAL, level)
    end
    return fn(...)
  end
end

-- ngx.exit may have been taken into locals already. Where it is that of
-- lua-resty-core, what it calls is guarded, and so are all of these.
local function guard_exit()
  for i = 1, debug.getinfo(ngx.exit, "u").nups do
    local name, value = debug.getupvalue(ngx.exit, i)
    if name == "ngx_lua_ffi_exit" then
      debug.setupvalue(ngx.exit, i, guarded(value, 3))
      return
    end
  end
  ngx.exit = guarded(ngx.exit, 2)
end

guard_exit()

-- Guards the timer that runs.
function M.guard()
  ngx.ctx[MARK] = true
end

-- Ends the timer that runs, with all of its light threads. Does not return.
function M.end_timer()
  ngx.ctx[MARK] = nil
  return ngx.exit(ngx.OK)
end

-- Threads that ngx_lua keeps for later have no frame, and their status is
-- not to be asked for.
local function waits_inside(thread)
  return debug.getinfo(thread, 0, "l") ~= nil
    and coroutine.status(thread) == "normal"
end

-- Kills a light thread that the one that runs has spawned, unless its
-- coroutine waits. Returns whether it is gone.
---@param thread thread
---@return boolean
function M.kill(thread)
  if waits_inside(thread) then return false end
  ngx.thread.kill(thread)
  return true
end

local function holds(list, thread)
  for _, value in next, list do
    if value == thread then return true end
  end
  return false
end

-- The table in which ngx_lua anchors all light threads, the one that runs
-- among them.
local function anchors()
  local running = coroutine.running()
  for key, value in next, debug.getregistry() do
    if type(key) == "userdata" and type(value) == "table"
       and holds(value, running) then
      return value
    end
  end
end

-- Whether the timer that runs can be ended now.
---@return boolean
function M.can_end_timer()
  local all = anchors()
  if not all then return false end
  for _, value in next, all do
    if type(value) == "thread" and waits_inside(value) then return false end
  end
  return true
end

return M
