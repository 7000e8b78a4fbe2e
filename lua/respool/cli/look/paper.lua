-- SPDX-License-Identifier: MIT
--
-- An output that keeps its lines, so that the pages of respool top are written
-- as the other commands write.

local output = require "respool.cli.base.output"

local M = {}

local LONGEST = 1000 -- columns of a line, which no screen has

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

-- Rows of a table: each a list of cells, with `key`, `of` and `style`.
function M.table(look, columns, rows)
  local lines = M.lines(look.columns, function(io)
    output.table(io, columns, rows)
  end)
  local list = {}
  for i, row in ipairs(rows) do
    list[i] = { key = row.key, of = row.of, style = row.style,
                text = lines[i + 1] }
  end
  return list, lines[1]
end

-- A page of the lines that draw(io) writes.
function M.page(name, draw)
  return { name = name, still = true, read = function(look)
    local message
    local lines = M.lines(look.columns, function(io)
      local ok, why = draw(look, io)
      message = not ok and why
    end)
    if message then return nil, message end
    local rows = {}
    for i, line in ipairs(lines) do
      rows[i] = { key = i, text = output.cut(line, LONGEST) }
    end
    return rows
  end }
end

return M
