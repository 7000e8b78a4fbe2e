-- SPDX-License-Identifier: MIT
--
-- Text for people: which strings are UTF-8, cut between its characters.

local core = require "respool.core"

local M = {}

-- Whether a string is UTF-8: RFC 3629, section 4. The core knows, which
-- encodes text and bytes as two different things.
---@param s string
---@return boolean
function M.is_utf8(s)
  return not s:find "[\128-\255]" or core.cbor.encode(s):byte() >= 0x60
end

-- The beginning of a text, `most` bytes at most.
---@param text string
---@param most integer
---@return string
function M.cut(text, most)
  if #text <= most then return text end
  local stop = most
  while stop > 0 and text:find("^[\128-\191]", stop + 1) do stop = stop - 1 end
  return text:sub(1, stop)
end

return M
