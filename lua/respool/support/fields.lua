-- SPDX-License-Identifier: MIT
--
-- Fields of what a user is given: a name that no such object has is misuse,
-- most likely mistyped, and raises with the nearest name.

local compat = require "respool.support.compat"
local suggestion = require "respool.support.suggestion"

local M = {}

-- Raises that objects of a kind have no field `name`.
---@param what string such as "an item"
---@param name string
---@param known table<string, any>[] tables whose keys are the fields there are
function M.unknown(what, name, known)
  local names = {}
  for _, fields in ipairs(known) do
    for field in pairs(fields) do names[#names + 1] = field end
  end
  table.sort(names)
  compat.misuse(("%s has no field '%s'%s"):format(what, name,
    suggestion.suggestion(name, names)))
end

-- The metatable of records that have no other fields than these.
---@param what string such as "an item"
---@param names string separated by white space
---@param describe fun(record: table): string
---@return table
function M.record(what, names, describe)
  local known = {}
  for name in names:gmatch "%S+" do known[name] = true end
  return {
    __tostring = describe,
    __index = function(_, name)
      if type(name) == "string" and not known[name] then
        M.unknown(what, name, { known })
      end
    end,
  }
end

return M
