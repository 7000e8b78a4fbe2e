-- SPDX-License-Identifier: MIT
--
-- Text for people: cut between characters of UTF-8.

local M = {}

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
