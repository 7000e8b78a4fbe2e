-- SPDX-License-Identifier: MIT
--
-- Parameters of requests, each with its kind. What is not understood to the
-- last parameter does nothing.

local core = require "respool.core"
local options = require "respool.support.options"

local M = {}

local LARGEST = 2^53 - 1 -- whole numbers beyond are not told apart
local MANY = 100         -- parameters of a request

-- A whole number in digits.
---@param least integer
---@param most number
function M.whole(least, most)
  local kind = options.whole(least, most)
  return function(text)
    return kind(tonumber(tostring(text):match "^%d+$"))
  end
end

M.number = M.whole(1, LARGEST)

-- Any text; one without a value is `true`.
function M.text(value)
  return options.string(value), "given a value"
end

function M.name(value)
  return options.name(value), "a name"
end

-- A key of an item or a partition.
function M.key(value)
  return options.key(value)
end

-- "true" or "false".
function M.flag(value)
  if value == "true" then return true end
  if value == "false" then return false end
  return nil, "true or false"
end

-- A number above 0.
function M.positive(value)
  local n = type(value) == "string" and value:match "^[%d.]+$"
    and core.number(value)
  return n and n > 0 and n or nil, "a number above 0"
end

-- Seconds since 1970.
function M.time(value)
  local n = type(value) == "string" and value:match "^%d+%.?%d*$"
    and core.number(value)
  return n and n < 2^53 and n or nil, "a time in seconds since 1970"
end

function M.choice(names)
  return function(value)
    for _, name in ipairs(names) do
      if value == name then return name end
    end
    return nil, "one of " .. table.concat(names, ", ")
  end
end

-- A part of a URL as it is meant.
---@param text string
---@return string
function M.unescape(text)
  return (text:gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

local function decoded(text)
  return M.unescape(text:gsub("+", " "))
end

local function why_not(takes, name, value)
  local kind = takes[name]
  if not kind then
    return ("there is no parameter '%s' here"):format(name:sub(1, 40))
  end
  local kept, expected = kind(value)
  if kept == nil then
    return ("parameter '%s' must be %s"):format(name, expected)
  end
  return nil, kept
end

local function add(o, takes, part)
  local name, value = part:match "^([^=]*)=(.*)$"
  name = decoded(name or part)
  if name == "" then return "there is a parameter without a name" end
  if o[name] ~= nil then
    return ("parameter '%s' is given more than once"):format(name:sub(1, 40))
  end
  local why, kept = why_not(takes, name, value and decoded(value) or true)
  o[name] = kept
  return why
end

-- The parameters of a query by name, as their kinds keep them; nil and why when
-- they are not understood.
---@param query string
---@param takes table<string, function>
---@return table?, string?
function M.read(query, takes)
  local o, n = {}, 0
  if query:find("#", 1, true) then return nil, "a '#' must be written %23" end
  for part in query:gmatch "[^&]+" do
    n = n + 1
    local why = n > MANY and "there are too many parameters"
      or add(o, takes, part)
    if why then return nil, why end
  end
  return o
end

return M
