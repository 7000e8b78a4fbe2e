-- SPDX-License-Identifier: MIT
--
-- Filters as people write them: a Lua expression over the fields of a dead
-- letter, which are its globals, such as
--
--   reason == "exhausted" and payload.amount > 100 and age < 86400
--
-- Besides these it sees string, math and a few functions that have no effect
-- elsewhere. Any other name is an error, not nil.

local compat = require "respool.support.compat"
local arguments = require "respool.cli.base.arguments"
local null = require "respool.core".cbor.null

local M = {}

-- Fields that a dead letter has or may have.
local FIELDS = {}
for name in ([[number queue id payload headers original reason group error
    pushed_at died_at first_failed_at attempts deliveries crashes replays
    priority items failures history bytes origin codec]]):gmatch "%S+" do
  FIELDS[name] = true
end

local function copy(t)
  local new = {}
  for name, value in pairs(t) do new[name] = value end
  return new
end

local function tools()
  local strings = copy(string)
  strings.dump = nil
  return {
    string = strings, math = copy(math), type = type, tostring = tostring,
    tonumber = tonumber, ipairs = ipairs, pairs = pairs, select = select,
    null = null,
  }
end

local function compile(expression, env)
  local text = "return " .. expression
  local setfenv = rawget(_G, "setfenv")
  if not setfenv then
    return load(text, "=--where", "t", env)
  end
  local chunk, message = loadstring(text, "=--where") -- luacheck: ignore
  return chunk and setfenv(chunk, env), message
end

-- Compiles an expression into a function of a dead letter. Ends the command if
-- its syntax is wrong.
---@param expression string
---@param now number
---@return fun(dead_letter: respool.dead_letter): any
function M.compile(expression, now)
  local dead_letter
  local known = tools()
  local function field(_, name)
    if known[name] ~= nil then return known[name] end
    if name == "age" then return now - dead_letter.died_at end
    if not FIELDS[name] then
      error(("there is no field '%s'"):format(tostring(name)), 0)
    end
    return dead_letter[name]
  end
  local env = setmetatable({}, {
    __index = field, __metatable = false,
    __newindex = function() error("a filter sets nothing", 0) end,
  })
  local chunk, message = compile(expression, env)
  if not chunk then arguments.misuse(message) end
  return function(of)
    dead_letter = of
    return chunk()
  end
end

-- Ends the command if the expression uses an unknown name, which would fail for
-- every dead letter.
---@param where fun(dead_letter: respool.dead_letter): any
---@param dead_letter respool.dead_letter
function M.try(where, dead_letter)
  local ok, problem = compat.pcall(where, dead_letter)
  if not ok and tostring(problem):find("^there is no field") then
    arguments.misuse("--where: " .. problem)
  end
end

return M
