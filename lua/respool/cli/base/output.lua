-- SPDX-License-Identifier: MIT
--
-- The output of commands: tables and figures for people, JSON for programs.
-- Payloads and errors may hold any bytes, so control characters are shown as
-- escapes and never sent to the terminal.

local compat = require "respool.support.compat"
local core = require "respool.core"
local json = require "respool.support.json"
local visible = require "respool.support.visible"

local M = {}


-- Text.

-- A string in one line that a terminal shows as it is.
M.clean = visible.clean

local columns_of = core.terminal.columns

-- How many columns a text takes.
---@param s string
---@return integer
function M.width(s)
  if not s:find "[\128-\255]" then return #s end
  return (columns_of(s))
end

local width = M.width

-- The first `n` columns of a text, with a mark when that is not all.
---@param s string
---@param n integer
---@return string
function M.cut(s, n)
  if width(s) <= n then return s end
  local _, bytes = columns_of(s, n - 1)
  return s:sub(1, bytes) .. "…"
end


-- Figures.

-- A whole number with its thousands apart.
---@param n number
---@return string
function M.number(n)
  local s = ("%.0f"):format(n)
  local sign, digits = s:match "^(-?)(%d+)$"
  if not digits then return s end
  digits = digits:reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return sign .. digits:gsub("^,", "")
end

-- A number of things: "1 line", "2 lines".
---@param n number
---@param noun string one of them
---@return string
function M.count(n, noun)
  return ("%s %s%s"):format(M.number(n), noun, n == 1 and "" or "s")
end

local function sized(n, unit, step, names)
  local i = 0
  while n >= step and i < #names do
    n, i = n / step, i + 1
  end
  if i == 0 then return ("%.0f%s"):format(n, unit) end
  return core.decimal(n, n < 10 and 1 or 0) .. names[i]
end

local RANGES = 8

local function range_text(first, last)
  if first == last then return M.number(first) end
  return ("%s-%s"):format(M.number(first), M.number(last))
end

-- Rising numbers as ranges, such as 3, 6-10 ...; the first few of them. `of`
-- is how many there are, of which the list may hold the first.
---@param numbers integer[]
---@param of integer? #numbers
---@return string
function M.ranges(numbers, of)
  local parts, first = {}, numbers[1]
  for i = 1, #numbers do
    if numbers[i + 1] ~= numbers[i] + 1 then
      parts[#parts + 1] = range_text(first, numbers[i])
      first = numbers[i + 1]
    end
  end
  local more = (of or 0) > #numbers or #parts > RANGES
  return table.concat(parts, ", ", 1, math.min(#parts, RANGES))
    .. (more and " ..." or "")
end

-- A number of bytes, such as 4.2 KiB.
---@param n number
---@return string
function M.bytes(n)
  return sized(n, " B", 1024, { " KiB", " MiB", " GiB", " TiB" })
end

-- A number of things, such as 12k, to be read at a glance.
---@param n number
---@return string
function M.short(n)
  return sized(n, "", 1000, { "k", "M", "G" })
end

-- A duration of two units at most, such as 350ms, 4.2s, 3m05s, 2h10m, 4d03h.
---@param seconds number
---@return string
function M.duration(seconds)
  local s = math.max(seconds, 0)
  if s == 0 then return "0s" end
  if s == math.huge then return "never" end
  if s < 0.9995 then return ("%.0fms"):format(math.max(s * 1000, 1)) end
  if s < 9.95 then return core.decimal(s, 1) .. "s" end
  s = math.floor(s + 0.5)
  local m, h, d = math.floor(s / 60), math.floor(s / 3600),
    math.floor(s / 86400)
  if m == 0 then return ("%ds"):format(s) end
  if h == 0 then return ("%dm%02ds"):format(m, s % 60) end
  if d == 0 then return ("%dh%02dm"):format(h, m % 60) end
  return ("%dd%02dh"):format(d, h % 24)
end

-- A moment in local time, to the second; with `zone` as ISO 8601 in UTC.
---@param t number? seconds since 1970
---@param zone boolean?
---@return string
function M.time(t, zone)
  if not t or t <= 0 then return "-" end
  return os.date(zone and "!%Y-%m-%dT%H:%M:%SZ" or "%Y-%m-%d %H:%M:%S",
                 math.floor(t))
end


-- Payloads.

local CUT = 72 -- columns

-- No more of a payload is read than is shown: a character may have four bytes.
local BEGINNING = { limit = 4 * (CUT + 1) }

-- The payload of a record in one line for a table, cut to 72 columns unless
-- `full`. A payload that cannot be decoded is shown by its bytes.
---@param record table as a handle with the codec "raw" lists it
---@param o { full: boolean?, raw: boolean? }
---@return string
function M.line(record, o)
  local text = json.body(record.bytes, json.codec_of(
    record, rawget(record, "codec"), o.raw), not o.full and BEGINNING or nil)
  text = M.clean(text)
  return o.full and text or M.cut(text, CUT)
end

local LINES, COLUMNS = 20, 200

local function split(text)
  local lines = {}
  for line in (text .. "\n"):gmatch "(.-)\n" do lines[#lines + 1] = line end
  return lines
end

-- JSON over several lines, indented; the longest are cut unless `full`.
---@param text string
---@param o { full: boolean?, indent: integer? }?
---@return string without a newline at its end
function M.cut_lines(text, o)
  local full = o and o.full
  local pad = (" "):rep(o and o.indent or 0)
  local lines = split(text)
  local n = full and #lines or math.min(#lines, LINES)
  local shown = {}
  for i = 1, n do
    local line = M.clean(lines[i])
    shown[i] = pad .. (full and line or M.cut(line, COLUMNS))
  end
  if n < #lines then
    shown[#shown + 1] = ("%s… %d more lines (--full shows them)"):format(
      pad, #lines - n)
  end
  return table.concat(shown, "\n")
end

-- A value as such lines.
---@param value any
---@param o { full: boolean?, indent: integer? }?
---@return string
function M.pretty(value, o)
  return M.cut_lines(json.encode(value, 2), o)
end


-- Tables.

---@class respool.cli.column
---@field title string
---@field right boolean? aligned to the right, as numbers are
---@field cut boolean? cut on a terminal that is too narrow for the table

local function cell(value)
  if not value or value == "" then return "-" end
  return M.clean(compat.text(value))
end

local function pad(text, to, right)
  local gap = (" "):rep(to - width(text))
  return right and gap .. text or text .. gap
end

local function widths(columns, lines)
  local most = {}
  for i in ipairs(columns) do
    most[i] = 0
    for _, line in ipairs(lines) do
      most[i] = math.max(most[i], width(line[i]))
    end
  end
  return most
end

local LEAST = 12 -- columns that a cut cell keeps

-- Narrows columns that may be cut until the table fits the terminal.
local function fit(io, columns, most)
  if not io.stdout:isatty() then return end
  local excess = 2 * (#columns - 1) - (io.stdout:size())
  for _, n in ipairs(most) do excess = excess + n end
  for i = #columns, 1, -1 do
    if columns[i].cut and excess > 0 then
      local less = math.min(excess, math.max(most[i] - LEAST, 0))
      most[i], excess = most[i] - less, excess - less
    end
  end
end

-- Writes rows under titles. Each row is a list of cells, strings or numbers.
---@param io respool.cli.io
---@param columns respool.cli.column[]
---@param rows any[][] nil cells are shown as -
function M.table(io, columns, rows)
  local lines = { {} }
  for i, column in ipairs(columns) do lines[1][i] = column.title end
  for _, row in ipairs(rows) do
    local line = {}
    for i in ipairs(columns) do line[i] = cell(row[i]) end
    lines[#lines + 1] = line
  end
  local most = widths(columns, lines)
  fit(io, columns, most)
  for _, line in ipairs(lines) do
    local parts = {}
    for i, column in ipairs(columns) do
      parts[i] = pad(M.cut(line[i], most[i]), most[i], column.right)
    end
    io.stdout:write((table.concat(parts, "  "):gsub("%s+$", "")), "\n")
  end
end

-- Writes a table that may have no rows, or more than are shown by default.
---@param io respool.cli.io
---@param columns respool.cli.column[]
---@param rows any[][]
---@param what string plural noun for the rows
---@param limit integer|false how many are shown by default; false: all
function M.first_rows(io, columns, rows, what, limit)
  if #rows == 0 then
    io.stdout:write("no ", what, "\n")
  else
    M.table(io, columns, rows)
  end
  if #rows == limit then
    io.stderr:write(("the first %d; --limit N lists more\n"):format(limit))
  end
end

-- Writes names and values, a pair a line.
---@param io respool.cli.io
---@param pairs_of any[][] { name, value }
function M.fields(io, pairs_of)
  local most = 0
  for _, pair in ipairs(pairs_of) do most = math.max(most, width(pair[1])) end
  for _, pair in ipairs(pairs_of) do
    io.stdout:write(pad(pair[1], most), "  ", cell(pair[2]), "\n")
  end
end


-- For programs.

-- Writes one JSON text and a newline: see respool/json.lua for what becomes
-- of null, arrays, and bytes that are no UTF-8.
---@param io respool.cli.io
---@param value any
function M.json(io, value)
  io.stdout:write(visible.json(json.encode(value)), "\n")
end

-- Adds --json.
function M.add_json(command)
  command:flag("--json", "Write JSON, for programs.")
end

-- Adds --full.
function M.add_full(command)
  command:flag("--full", "Do not cut long payloads and errors.")
end

return M
