-- SPDX-License-Identifier: MIT
--
-- Charts of respool top, of characters: the samples that a store keeps, as
-- points evenly apart, and these as lines of text.

local M = {}

local TALL = 3 -- lines

local BLOCKS = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" }
local ASCII = { "_", ".", ",", "-", "=", "+", "*", "#" }

-- The last `n` numbers as a line, the highest at full height.
---@param past number[]
---@param n integer
---@param ascii boolean?
---@return string
function M.sparkline(past, n, ascii)
  local levels, most, parts = ascii and ASCII or BLOCKS, 0, {}
  local from = math.max(#past - n + 1, 1)
  for i = from, #past do most = math.max(most, past[i]) end
  for i = from, #past do
    local level = most > 0 and math.ceil(past[i] / most * 7) or 0
    parts[#parts + 1] = levels[level + 1]
  end
  return (" "):rep(n - #parts) .. table.concat(parts)
end


-- `n` values of the time between two moments: that of the sample in the middle
-- of each part; where there is none 0, or the last one when it `lasts`.
---@param samples respool.trend[] in the order of time
---@param from number
---@param upto number
---@param n integer
---@param value fun(sample: respool.trend): number
---@param lasts boolean?
---@return number[]
function M.points(samples, from, upto, n, value, lasts)
  local points, at, before = {}, 1, 0
  for i = 1, n do
    local moment = from + (upto - from) * (i - 0.5) / n
    while samples[at] and samples[at].at < moment do
      before = lasts and value(samples[at]) or 0
      at = at + 1
    end
    local s = samples[at]
    points[i] = s and s.since <= moment and value(s) or before
  end
  return points
end

-- A title with the last and the highest value, and under it the points.
---@param title string
---@param points number[]
---@param format fun(value: number): string
---@param ascii boolean?
---@return string[]
function M.lines(title, points, format, ascii)
  local levels, top = ascii and ASCII or BLOCKS, 0
  for _, value in ipairs(points) do top = math.max(top, value) end
  local lines = { ("%s: %s now, at most %s"):format(title,
    format(points[#points] or 0), format(top)) }
  for row = TALL, 1, -1 do
    local parts = {}
    for i, value in ipairs(points) do
      local eighths = top > 0 and math.ceil(value / top * TALL * 8) or 0
      local here = math.max(0, math.min(8, eighths - (row - 1) * 8))
      parts[i] = here > 0 and levels[here] or " "
    end
    lines[#lines + 1] = table.concat(parts)
  end
  return lines
end

return M
