-- SPDX-License-Identifier: MIT
--
-- Pages: walks over more than is read at once.

local M = {}

M.BYTES = 4 * 2^20 -- of payloads in a page, about

-- Iterates over the elements of page after page, until an empty one.
-- next_page gets the page before. A storage error is raised.
---@param next_page fun(last: table): table?, string?
---@return fun(): any
function M.each(next_page)
  local page, i = {}, 0
  return function()
    i = i + 1
    if i > #page then
      local fresh, message = next_page(page)
      if not fresh then error("respool: " .. message, 2) end
      page, i = fresh, 1
    end
    return page[i]
  end
end

return M
