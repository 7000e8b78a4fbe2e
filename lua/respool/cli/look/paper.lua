-- SPDX-License-Identifier: MIT
--
-- An output that keeps its lines, so that respool top shows what the other
-- commands write.

local M = {}

local Writer = {}
Writer.__index = Writer

function Writer:write(...)
  for _, text in ipairs { ... } do self[#self + 1] = tostring(text) end
  return self
end

function Writer.isatty()
  return true
end

function Writer:size()
  return self.columns, 24
end

-- The lines that draw(io) writes to its stdout, a terminal of so many columns.
---@param columns integer
---@param draw fun(io: table)
---@return string[]
function M.lines(columns, draw)
  local writer, lines = setmetatable({ columns = columns }, Writer), {}
  draw { stdout = writer }
  for line in table.concat(writer):gmatch "([^\n]*)\n" do
    lines[#lines + 1] = line
  end
  return lines
end

return M
