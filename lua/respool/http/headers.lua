-- SPDX-License-Identifier: MIT
--
-- Headers: tables of values by names in lower case, and which of them a message
-- can have.

local core = require "respool.core"

local M = {}

-- Whether a text may be a header's name.
---@param name any
---@return boolean
function M.is_name(name)
  return type(name) == "string" and name:find "^[%w!#$%%&'*+.^_`|~-]+$" ~= nil
end

-- Whether a text may be a header's value: nothing in it ends the line.
---@param value any
---@return boolean
function M.is_value(value)
  return type(value) == "string" and not value:find "[%z\1-\8\10-\31\127]"
end

-- Those of a table's headers that can be sent; and whether all can.
---@param given any
---@return table<string, string>, boolean
function M.sendable(given)
  local kept, all = {}, true
  for name, value in pairs(type(given) == "table" and given or {}) do
    if type(value) == "number" then value = core.decimal(value) end
    if M.is_name(name) and M.is_value(value) then
      kept[name:lower()] = value
    else
      all = false
    end
  end
  return kept, all
end

-- Those that `names` has.
---@param headers table<string, string>
---@param names string[] in lower case
---@return table<string, string>
function M.pick(headers, names)
  local picked = {}
  for _, name in ipairs(names) do picked[name] = headers[name] end
  return picked
end

-- The lines of a head, sorted; names as people write them.
---@param headers table<string, string>
---@return string[]
function M.lines(headers)
  local lines = {}
  for name, value in pairs(headers) do
    lines[#lines + 1] = ("%s: %s"):format(
      name:gsub("%f[%a]%a", string.upper), value)
  end
  table.sort(lines)
  return lines
end

return M
