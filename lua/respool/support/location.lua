-- SPDX-License-Identifier: MIT
--
-- Where a store lies: a directory, ":memory:", or the URL of a database.

local M = {}

-- Is it the URL of a database?
---@param path string
---@return boolean
function M.is_database(path)
  return path:find "^postgres://" ~= nil or path:find "^postgresql://" ~= nil
end

-- As messages show it: a URL without its password, also one that should have
-- %40 for an @ and %2F for a slash.
---@param path string
---@return string
function M.shown(path)
  if not M.is_database(path) then return path end
  path = path:gsub("^(%w+://[^/:@]*):[^?]*@", "%1@")
  return (path:gsub("([?&]password=)[^&]*", "%1..."))
end

return M
