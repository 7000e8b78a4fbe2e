-- SPDX-License-Identifier: MIT
--
-- The logger of a store that was given none: one line for each warning and
-- error. A store writes at most MOST lines in SPAN seconds; then, or when it is
-- closed, a line says how many were left out.

local compat = require "respool.support.compat"
local line_limit = require "respool.support.line_limit"
local visible = require "respool.support.visible"

local M = {}

-- The last message of a store.
M.CLOSED = "store closed"

local MOST, SPAN = 20, 4

local SHOWN = { warn = true, error = true }

local function clean(value)
  return visible.clean(compat.text(value))
end

local LONGEST = 300 -- bytes of a field

local function field(name, value)
  local text = clean(value)
  if #text > LONGEST then text = text:sub(1, LONGEST) .. "..." end
  if type(value) == "string" and (text == "" or text:find '[ "=]') then
    text = '"' .. text:gsub('"', '\\"') .. '"'
  end
  return ("%s=%s"):format(name, text)
end

-- The line of a message, its fields in the order of their names; a trace is
-- for logs that have room for it.
---@param level respool.level
---@param message string
---@param fields table<string, any>
---@return string
function M.line(level, message, fields)
  local names, parts = {}, { ("respool: %s: %s"):format(level, clean(message)) }
  for name in pairs(fields) do
    if name ~= "trace" then names[#names + 1] = name end
  end
  table.sort(names)
  for i, name in ipairs(names) do parts[i + 1] = field(name, fields[name]) end
  return table.concat(parts, " ")
end

local function to_stderr(_, line)
  io.stderr:write(line, "\n")
end

-- A logger for one store. `write` gets each line, and its level.
---@param write (fun(level: respool.level, line: string))?
---@return fun(level: respool.level, message: string, fields: table)
function M.new(write)
  write = write or to_stderr
  local limit = line_limit.new(MOST, SPAN)
  local function report(n)
    write("warn", ("respool: warn: %d lines were left out"):format(n))
  end
  return function(level, message, fields)
    if message == M.CLOSED then line_limit.restart(limit, report) end
    if SHOWN[level] and line_limit.admits(limit, report) then
      write(level, M.line(level, message, fields))
    end
  end
end

return M
