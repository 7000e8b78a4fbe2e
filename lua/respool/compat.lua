-- SPDX-License-Identifier: MIT
--
-- What differs between the Luas: this is the one place that asks.

local core = require "respool.core"

local M = {}

-- Errors of misuse are raised at the innermost line outside this directory.
core.home(debug.getinfo(1, "S").source)

---@type fun(message: string)
M.misuse = core.misuse

M.unpack = table.unpack or unpack -- luacheck: ignore

local function passes_arguments()
  return select(2, xpcall(function(given) return given end, print, true))
end

-- xpcall that hands its further arguments on, as all but plain 5.1 do.
M.xpcall = xpcall
if not passes_arguments() then
  function M.xpcall(f, catch, a, b)
    return xpcall(function() return f(a, b) end, catch)
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
  return pass(pcall(f, ...))
end

return M
