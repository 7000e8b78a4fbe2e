-- SPDX-License-Identifier: MIT
--
-- The differences between the Luas: no other file asks which one it is.

local core = require "respool.core"

local M = {}

-- Errors of misuse are raised at the innermost line outside this directory.
core.home((debug.getinfo(1, "S").source:gsub("support/", "")))

---@type fun(message: string)
M.misuse = core.misuse

M.unpack = table.unpack or unpack -- luacheck: ignore

-- A value as text; of a number the same one whatever the locale.
---@param value any
---@return string
function M.text(value)
  return type(value) == "number" and core.decimal(value) or tostring(value)
end

-- Plain 5.1: its xpcall passes no arguments on, and nothing yields across its
-- pcall.
local IS_51 = not select(2, xpcall(function(given) return given end, print,
                                   true))

-- pcall that may be yielded across, as any may but that of plain 5.1: there the
-- function runs in a coroutine of its own, whose yields are passed on. The task
-- is the coroutine that began them all.
M.task_pcall, M.task = pcall, coroutine.running
if IS_51 then
  local task_of = setmetatable({}, { __mode = "k" })

  function M.task()
    local running = coroutine.running()
    return task_of[running] or running
  end

  local function go_on(inner, ok, ...)
    if coroutine.status(inner) == "dead" then return ok, ... end
    return go_on(inner, coroutine.resume(inner, coroutine.yield(...)))
  end

  function M.task_pcall(f, ...)
    local task = M.task()
    if not task then return pcall(f, ...) end
    local inner = coroutine.create(function(...) return f(...) end)
    task_of[inner] = task
    return go_on(inner, coroutine.resume(inner, ...))
  end
end

-- xpcall that hands its further arguments on, as all but plain 5.1 do.
M.xpcall = xpcall
if IS_51 then
  local function caught(catch, ok, ...)
    if ok then return ok, ... end
    return ok, catch((...))
  end

  function M.xpcall(f, catch, ...)
    if M.task() then return caught(catch, M.task_pcall(f, ...)) end
    local n, given = select("#", ...), { ... }
    return xpcall(function() return f(unpack(given, 1, n)) end, catch)
  end
end

-- The lua interpreter raises this from a hook on Ctrl-C: the program is to
-- end, and whatever was running is not to blame.
---@param err any
---@return boolean
function M.is_interrupt(err)
  return type(err) == "string" and err:find("interrupted!$") ~= nil
end

local function pass(ok, ...)
  if not ok and M.is_interrupt((...)) then error((...), 0) end
  return ok, ...
end

-- pcall that lets an interrupt through.
function M.pcall(f, ...)
  return pass(M.task_pcall(f, ...))
end



-- Errors that go on.

local kept -- the traceback of the error that is raised again

-- Raises an error that was caught, with the traceback it had.
---@param err any
---@param trace string
local function rethrow(err, trace)
  kept = trace
  error(err, 0)
end
M.rethrow = rethrow

-- For a message handler: where its error was raised first.
---@return string
function M.traceback()
  for level = 3, 5 do
    local caller = debug.getinfo(level, "f")
    if caller and caller.func == rethrow then return kept end
  end
  return debug.traceback("", 3)
end

-- guard(f, arg, undo) returns what f(arg) returns. When that raises, undo()
-- is called, and the error goes on as it is: by a variable to be closed where
-- Lua has such, so that the error is not even touched.
local CLOSING = [[
  local setmetatable = setmetatable
  return function(f, arg, undo)
    local failed = true
    local function pass(...)
      failed = false
      return ...
    end
    local guard <close> = setmetatable({}, { __close = function()
      if failed then undo() end
    end })
    return pass(f(arg))
  end
]]

local function catching(f, arg, undo)
  local trace
  local function pass_on(ok, ...)
    if ok then return ... end
    undo()
    rethrow((...), trace)
  end
  return pass_on(M.xpcall(f, function(err)
    trace = M.traceback()
    return err
  end, arg))
end

local load_text = rawget(_G, "loadstring") or load -- strict globals know none
local closing = load_text(CLOSING, debug.getinfo(1, "S").source)
M.guard = closing and closing() or catching

return M
