-- SPDX-License-Identifier: MIT
--
-- Suggestions for mistyped names.

local min = math.min

local M = {}

-- How many letters have to be inserted, removed, replaced or swapped with
-- their neighbour to make one word of the other.
local function distance(a, b)
  local before, row = {}, {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local last = before
    before, row = row, { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      row[j] = min(before[j] + 1, row[j - 1] + 1,
                   before[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1)
         and a:byte(i - 1) == b:byte(j) then
        row[j] = min(row[j], last[j - 2] + 1)
      end
    end
  end
  return row[#b]
end

-- The name of `names` (its keys) that is most like `name`; nil when none is.
---@param name string
---@param names table<string, any>
---@return string?
function M.of(name, names)
  local best, least = nil, min(3, #name / 2 + 0.5)
  for known in pairs(names) do
    local d = type(known) == "string" and distance(name, known) or least
    if d < least or d == least and best and known < best then
      best, least = known, d
    end
  end
  return best
end

-- "<what> 'name'", with the name that was meant, if one is like it.
---@param what string
---@param name string
---@param names table<string, any>
---@return string
function M.message(what, name, names)
  local meant = M.of(name, names)
  return ("%s '%s'%s"):format(what, name,
    meant and ("; did you mean '%s'?"):format(meant) or "")
end

return M
