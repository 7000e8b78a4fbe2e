-- SPDX-License-Identifier: MIT
--
-- The logger of a store that was given none: one line for each warning and
-- error. A store writes at most BURST lines at once and RATE a second; then a
-- line says how many were left out.

local core = require "respool.core"
local visible = require "respool.support.visible"

local min = math.min

local M = {}

local BURST, RATE = 20, 5 -- lines, lines a second

local SHOWN = { warn = true, error = true }

local function clean(value)
  return visible.clean(tostring(value))
end

local MOST = 300 -- bytes of a field

local function field(name, value)
  local text = clean(value)
  if #text > MOST then text = text:sub(1, MOST) .. "..." end
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

-- Whether one more line may be written now.
local function admits(state)
  local now = core.mono() / 1e6
  state.room = min(state.room + (now - state.at) * RATE, BURST)
  state.at = now
  if state.room < 1 then
    state.left_out = state.left_out + 1
    return false
  end
  state.room = state.room - 1
  return true
end

-- A logger for one store. `write` gets each line, and its level.
---@param write (fun(level: respool.level, line: string))?
---@return fun(level: respool.level, message: string, fields: table)
function M.new(write)
  write = write or to_stderr
  local state = { room = BURST, at = core.mono() / 1e6, left_out = 0 }
  return function(level, message, fields)
    if not SHOWN[level] or not admits(state) then return end
    if state.left_out > 0 then
      write("warn", ("respool: warn: %d lines were left out"):format(
        state.left_out))
      state.left_out = 0
    end
    write(level, M.line(level, message, fields))
  end
end

return M
