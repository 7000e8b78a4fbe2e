-- SPDX-License-Identifier: MIT
--
-- Where a store lies: a directory, ":memory:", or the URL of a database.

local core = require "respool.core"

local M = {}

-- Is it the URL of a database?
---@param path string
---@return boolean
function M.is_database(path)
  return path:find "^postgres://" ~= nil or path:find "^postgresql://" ~= nil
end

-- Do two paths name the same store, however they are written? Of databases only
-- equal URLs do; each store in memory is another.
---@param a string
---@param b string
---@return boolean
function M.is_same(a, b)
  if a == ":memory:" then return false end
  if a == b or M.is_database(a) or M.is_database(b) then return a == b end
  local whole = core.input.whole_path(a)
  return whole ~= nil and whole == core.input.whole_path(b)
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
