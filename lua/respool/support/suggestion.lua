-- SPDX-License-Identifier: MIT
--
-- Suggestions: of the names there are, the one that was probably meant.

local M = {}

-- How many letters differ, are missing, are too many, or have changed places
-- with their neighbour.
local function distance(a, b)
  local row, last, before = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    before, last, row = last, row, { [0] = i }
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + cost)
      if before and j > 1 and a:byte(i) == b:byte(j - 1)
         and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
  end
  return row[#b]
end

local BEGUN = 3 -- letters that are enough as the beginning of a name

-- Whether a name has been begun, and not finished.
local function is_begun(name, other)
  return #name:gsub("^%-+", "") >= BEGUN and other:sub(1, #name) == name
end

-- "; did you mean 'orders'?" when one of the names is close, or begins like
-- this, else "".
---@param name string
---@param names string[]
---@return string
function M.suggestion(name, names)
  local best, least
  for _, other in ipairs(names) do
    local d = distance(name, other)
    if (d <= math.max(1, math.floor(#name / 3)) or is_begun(name, other))
       and (not least or d < least) then
      best, least = other, d
    end
  end
  return best and ("; did you mean '%s'?"):format(best) or ""
end

return M
