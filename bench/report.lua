-- SPDX-License-Identifier: MIT
-- What the benchmark prints: numbers as people read them, tables in
-- Markdown, and goals with whether they were met. Progress goes to standard
-- error, so that the report can be kept.

local M = {}

local goals = {}

-- 1234567 as 1,234,567.
---@param n number
---@return string
function M.grouped(n)
  local s = ("%.0f"):format(n)
  return (s:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", ""))
end

-- Three digits: 2.86 M, 312 k, 8,120.
---@param n number
---@return string
function M.short(n)
  if n >= 1e6 then return ("%.2f M"):format(n / 1e6) end
  if n >= 1e4 then return ("%.0f k"):format(n / 1e3) end
  return M.grouped(n)
end

---@param ns number
---@return string
function M.time(ns)
  if ns >= 1e6 then return ("%.2f ms"):format(ns / 1e6) end
  return ("%.1f µs"):format(ns / 1e3)
end

function M.progress(...)
  io.stderr:write("... ", string.format(...), "\n")
end

function M.line(...)
  io.write(string.format(...), "\n")
end

local function row(cells)
  io.write("| ", table.concat(cells, " | "), " |\n")
end

-- Prints a table; the first row is its head.
---@param rows string[][]
function M.table(rows)
  io.write "\n"
  for i, cells in ipairs(rows) do
    row(cells)
    if i == 1 then io.write("|", ("---|"):rep(#cells), "\n") end
  end
  io.write "\n"
end

-- Notes a goal: `value` is to be `limit` at least, or at most.
---@param text string
---@param value number
---@param way "least"|"most"
---@param limit number
---@param show fun(n: number): string
function M.goal(text, value, way, limit, show)
  local met
  if way == "least" then met = value >= limit else met = value <= limit end
  goals[#goals + 1] = {
    text, (way == "least" and "≥ " or "≤ ") .. show(limit), show(value),
    met and "met" or "**missed**",
  }
end

-- A number with two digits behind the point.
function M.times(n)
  return ("%.2f"):format(n)
end

-- Prints the goals that were noted.
function M.goals()
  if #goals == 0 then return end
  M.table { { "goal", "", "measured", "" }, table.unpack(goals) }
end

return M
