-- SPDX-License-Identifier: MIT
--
-- The screen of respool top: the lines that show a sample. Nothing here reads
-- the store or writes to a terminal.

local chart = require "respool.cli.look.chart"
local core = require "respool.core"
local output = require "respool.cli.base.output"

local M = {}

---@class respool.cli.view
---@field path string
---@field columns integer
---@field rows number math.huge: as many as it takes
---@field interval number
---@field sort string a key of SORTS
---@field reversed boolean?
---@field ascii boolean? no characters beyond ASCII
---@field held boolean? it stands still
---@field help boolean?
---@field first integer the first queue that is shown, 1 on top
---@field at string? the queue under the cursor; nil: there is none
---@field tabs string? the line of tabs
---@field filter string? only what has this text in it, in lower case
---@field question string? that is asked, on the last line
---@field note string? what was done, or cannot be
---@field message string? what went wrong at the last look

---@class respool.cli.line
---@field text string
---@field style string? names of styles: bold, reverse, red, yellow


-- Sorting.

-- By the key that selects it: a name, and the value to sort by.
M.SORTS = {
  n = { "name", function(q) return q.name end, up = true },
  r = { "ready", function(q) return q.stats.ready end },
  l = { "leased", function(q) return q.stats.leased end },
  s = { "scheduled", function(q) return q.stats.scheduled end },
  y = { "retrying", function(q) return q.stats.retrying end },
  d = { "dead", function(q) return q.stats.dead end },
  o = { "oldest", function(q) return q.stats.oldest_age end },
  i = { "in", function(q) return q.pushed or 0 end },
  t = { "done", function(q) return q.done or 0 end },
  f = { "failed", function(q) return q.failed or 0 end },
}

-- Whether a text passes the filter of the view.
---@param text string
---@param view respool.cli.view
---@return boolean
function M.passes(text, view)
  return not view.filter or text:lower():find(view.filter, 1, true) ~= nil
end

-- The first and the last of `n` rows to be shown in `room` lines, one of which
-- says how many more there are: row number `at` is among them.
---@return integer first, integer last
function M.window(n, at, first, room)
  local shown = n > room and math.max(room - 1, 1) or room
  first = math.max(math.min(first, at), at - shown + 1, 1)
  return first, math.min(n, first + shown - 1)
end

-- The queues in the order of the view, those that pass its filter.
---@param queues respool.cli.queue_sample[]
---@param view respool.cli.view
---@return respool.cli.queue_sample[]
function M.sorted(queues, view)
  local sort, list = M.SORTS[view.sort], {}
  for _, q in ipairs(queues) do
    if M.passes(q.name, view) then list[#list + 1] = q end
  end
  local up = (sort.up or false) ~= (view.reversed or false)
  table.sort(list, function(a, b)
    local x, y = sort[2](a), sort[2](b)
    if x == y then return a.name < b.name end
    if up then return x < y end
    return x > y
  end)
  return list
end


-- Text.

local width = output.width

local function cut(text, n, ascii)
  if width(text) <= n then return text end
  local short = output.cut(text, n)
  return ascii and short:gsub("…", "~") or short
end

local function fit(text, n, right, ascii)
  text = cut(text, n, ascii)
  local gap = (" "):rep(n - width(text))
  return right and gap .. text or text .. gap
end

local function name_of(name, ascii)
  name = output.clean(name)
  if not ascii then return name end
  return (name:gsub("[\194-\244][\128-\191]+", "?"))
end

local function per_second(rate)
  if not rate then return "-" end
  if rate > 0 and rate < 9.95 then return core.decimal(rate, 1) end
  return output.short(rate)
end


-- Queues.

-- Title, width, the sort that is marked at it, and the value. Where the screen
-- is narrow the columns with a high `last` are left out first.
local COLUMNS = {
  { "READY", 5, "r", function(q) return output.short(q.stats.ready) end,
    last = 1 },
  { "LEASED", 6, "l", function(q) return output.short(q.stats.leased) end,
    last = 4 },
  { "SCHED", 5, "s", function(q) return output.short(q.stats.scheduled) end,
    last = 9 },
  { "RETRY", 5, "y", function(q) return output.short(q.stats.retrying) end,
    last = 6 },
  { "DEAD", 5, "d", function(q) return output.short(q.stats.dead) end,
    last = 2 },
  { "OLDEST", 6, "o", function(q)
    return q.stats.oldest and output.duration(q.stats.oldest_age) or "-"
  end, last = 5 },
  { "IN/S", 5, "i", function(q) return per_second(q.pushed) end, last = 7 },
  { "DONE/S", 6, "t", function(q) return per_second(q.done) end, last = 3 },
  { "FAIL/S", 6, "f", function(q) return per_second(q.failed) end, last = 8 },
}
local NAME_LEAST, NAME_MOST, SPARK_LEAST, SPARK_MOST = 12, 32, 8, 60

-- The columns that fit beside a name, and how wide they are together.
local function columns_of(view)
  local list, taken = {}, 0
  for i, c in ipairs(COLUMNS) do
    list[i], taken = c, taken + c[2] + 1
  end
  while NAME_LEAST + taken > view.columns and #list > 1 do
    local drop = 1
    for i, c in ipairs(list) do
      if c.last > list[drop].last then drop = i end
    end
    taken = taken - list[drop][2] - 1
    table.remove(list, drop)
  end
  return list, taken
end

-- Why nothing is taken from a queue, in a word.
local function stopped(stats)
  return stats.paused and "paused" or stats.held_until and "held"
    or stats.breaker ~= "closed" and stats.breaker:gsub("_", " ") or nil
end

-- The layout of the table: its columns, and the widths of name and sparkline.
local function layout_of(queues, view)
  local columns, taken = columns_of(view)
  local most = 8
  for _, q in ipairs(queues) do
    local why = stopped(q.stats)
    local mark = why and #why + 3 or 0
    most = math.max(most, width(name_of(q.name, view.ascii)) + mark)
  end
  local room = view.columns - taken - 1 - SPARK_LEAST
  local names = math.min(most, NAME_MOST, math.max(room, NAME_LEAST))
  local spark = math.min(view.columns - names - taken - 1, SPARK_MOST)
  return { columns = columns, names = names, spark = math.max(spark, 0) }
end

local function titles(view, layout)
  local line = fit(view.sort == "n" and "QUEUE*" or "QUEUE", layout.names)
  for _, c in ipairs(layout.columns) do
    local mark = view.sort == c[3] and #c[1] < c[2] and "*" or ""
    line = line .. " " .. fit(c[1] .. mark, c[2], true)
  end
  local over = layout.spark >= 16 and "DONE/S OVER TIME" or "DONE/S"
  if layout.spark >= #over then line = line .. " " .. over end
  return { text = fit(line, view.columns), style = "reverse" }
end

local function queue_line(q, view, layout)
  local name = name_of(q.name, view.ascii)
  local why = stopped(q.stats)
  if why then
    name = cut(name, layout.names - #why - 3, view.ascii) .. " (" .. why .. ")"
  end
  local line = fit(name, layout.names, false, view.ascii)
  for _, c in ipairs(layout.columns) do
    line = line .. " " .. fit(c[4](q), c[2], true, view.ascii)
  end
  if layout.spark < 1 then return { text = line } end
  return { text = line .. " " .. chart.sparkline(q.past, layout.spark,
                                             view.ascii) }
end

-- Yellow where nothing is taken, red where something fails.
local function style_of(q, view)
  return table.concat({
    q.name == view.at and "reverse" or "",
    stopped(q.stats) and "yellow" or (q.failed or 0) > 0 and "red" or "",
  }, " ")
end

local function index_of(sorted, name)
  for i, q in ipairs(sorted) do
    if q.name == name then return i end
  end
end

local function add_queues(lines, sample, view, room)
  local sorted = M.sorted(sample.queues, view)
  local layout = layout_of(sorted, view)
  lines[#lines + 1] = titles(view, layout)
  local last
  view.first, last = M.window(
    #sorted, index_of(sorted, view.at) or view.first, view.first, room)
  for i = view.first, last do
    local line = queue_line(sorted[i], view, layout)
    line.style = style_of(sorted[i], view)
    lines[#lines + 1] = line
  end
  if last < #sorted then
    lines[#lines + 1] = { text = ("  and %d more (arrow keys)"):format(
      #sorted - last) }
  elseif #sorted == 0 then
    lines[#lines + 1] = {
      text = view.filter and "  none passes the filter" or "  no queues",
    }
  end
end


-- Dead letters.

local function add_groups(lines, sample, view, room)
  if #sample.groups == 0 or room < 2 then return end
  local title = ("%7s  %s  %s  %s"):format(
    "DEAD", fit("DLQ", 16), fit("REASON", 12), "GROUP")
  lines[#lines + 1] = { text = "" }
  lines[#lines + 1] = { text = fit(title, view.columns), style = "reverse" }
  for i = 1, math.min(#sample.groups, room - 1) do
    local g = sample.groups[i]
    local group = g.group ~= "" and name_of(g.group, view.ascii) or "-"
    lines[#lines + 1] = { text = ("%7s  %s  %s  %s"):format(
      output.short(g.count),
      fit(name_of(g.dlq, view.ascii), 16, false, view.ascii),
      fit(g.reason, 12), group) }
  end
end


-- The whole.

local function sums(queues)
  local sum = { ready = 0, leased = 0, scheduled = 0, retrying = 0, dead = 0 }
  local rates = { pushed = 0, done = 0, failed = 0 }
  for _, q in ipairs(queues) do
    for name in pairs(sum) do sum[name] = sum[name] + q.stats[name] end
    for name in pairs(rates) do rates[name] = rates[name] + (q[name] or 0) end
  end
  return sum, rates
end

-- The path of the store, cut at its beginning to so many columns.
local function path_of(view, columns)
  local path = name_of(view.path, view.ascii)
  if width(path) <= columns then return path end
  if columns < 2 then return "" end
  local from = #path + 1
  for at in path:gmatch "()[^\128-\191]" do
    if width(path:sub(at)) < columns then
      from = at
      break
    end
  end
  return (view.ascii and "~" or "…") .. path:sub(from)
end

local function heading(sample, view)
  local rest = ("  %s  every %s%s"):format(
    os.date("%H:%M:%S", math.floor(sample.at)), output.duration(view.interval),
    view.held and "  STANDING STILL" or "")
  local name = "respool top  "
  if width(name) + width(rest) > view.columns then
    return cut(view.held and "STANDING STILL" or name, view.columns, view.ascii)
  end
  return name .. path_of(view, view.columns - #name - #rest) .. rest
end

local function head(sample, view)
  local sum, rates = sums(sample.queues)
  local s, n = sample.store, output.number
  local used = output.bytes(s.used_bytes) .. " used"
  local slots = ""
  if s.max_bytes > 0 then -- in files
    used = ("%s, %.0f%% of %s"):format(
      used, 100 * s.used_bytes / s.max_bytes, output.bytes(s.max_bytes))
    slots = ("; %d of %d reader slots"):format(s.readers, s.max_readers)
  end
  return {
    { style = "bold", text = heading(sample, view) },
    { text = ("%s: %s ready, %s leased, %s scheduled, %s retrying, %s dead")
      :format(output.count(#sample.queues, "queue"), n(sum.ready),
              n(sum.leased), n(sum.scheduled), n(sum.retrying), n(sum.dead)) },
    { text = ("in %s/s, done %s/s, failed %s/s; %s; %s commits/s%s"):format(
      per_second(rates.pushed), per_second(rates.done),
      per_second(rates.failed), used, per_second(sample.commits), slots) },
    { text = view.tabs or "" },
  }
end

-- What is asked, was done, or went wrong; nil: nothing.
local function said(view)
  local text = view.question or view.note or view.message
  return text and {
    text = output.clean(text),
    style = view.message == text and "bold red" or "bold",
  }
end

local function foot(view)
  return said(view) or {
    text = ("q quit  h help  Enter open  / filter  sorted by %s%s  %s"):format(
      M.SORTS[view.sort][1], view.reversed and ", reversed" or "",
      view.held and "space go on" or "p policy  c charts  v partitions"),
  }
end

local HELP = {
  "respool top", "",
  "  q           quit, as do Esc and Ctrl-C",
  "  h ?         this help, and back",
  "  1 to 8 Tab  queues, at work, scheduled, retrying, dead, schedules, ...",
  "  up down     move the cursor, as do PgUp, PgDn, Home, End",
  "  Enter Esc   look into what is under the cursor, and back",
  "  p c v       a queue's policy, charts, partitions",
  "  /           show only what has a text in it",
  "  space       pause and resume the display",
  "  + -         refresh less often, more often",
  "  Ctrl-L      redraw", "",
  "  sort by     n name     r ready      l leased   s scheduled",
  "              y retrying d dead       o oldest",
  "              i in/s     t done/s     f fail/s",
  "              the same key again reverses the order", "",
  "  With --writable, capitals act on what is under the cursor, after a",
  "  question: P pause or resume, U purge, R run now, replay, E edit, M move,",
  "  K kill, X cancel or remove, S stop. Yellow: not taken. Red: it fails.", "",
  "  OLDEST    how long the item that is ready longest is ready",
  "  FAIL/S    retries, deaths and leases that ran out",
}

local function help(view)
  local lines = {}
  for i, text in ipairs(HELP) do
    lines[i] = { text = text, style = i == 1 and "bold" or nil }
  end
  for i = #lines, view.rows + 1, -1 do lines[i] = nil end
  return lines
end

local function clip(lines, view)
  for _, line in ipairs(lines) do
    line.text = cut(line.text, view.columns, view.ascii)
  end
  return lines
end

-- Fills the screen to its last line, which is `foot_line`.
local function finish(lines, view, foot_line)
  for i = #lines, view.rows, -1 do lines[i] = nil end
  while #lines < view.rows - 1 do lines[#lines + 1] = { text = "" } end
  lines[#lines + 1] = foot_line
  return lines
end

local function hints(page, view)
  local parts, keys = { "q quit  h help" }, {}
  if page.enter then parts[2] = "Enter open" end
  if page.still then parts[2] = "Esc back" end
  parts[#parts + 1] = "/ filter"
  local does = {}
  for key, view_of in pairs(page.views or {}) do does[key] = view_of.word end
  for key, action in pairs(view.writable and page.actions or {}) do
    does[key] = action.word
  end
  for key in pairs(does) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do parts[#parts + 1] = key .. " " .. does[key] end
  return { text = table.concat(parts, "  ") }
end

-- The lines of a screen that shows the rows of a page.
---@param sample respool.cli.sample
---@param view respool.cli.view
---@param page respool.cli.page
---@param rows respool.cli.row[] of the page, those that pass the filter
---@param at integer which is under the cursor
---@return respool.cli.line[]
function M.draw_page(sample, view, page, rows, at)
  if view.help then return clip(help(view), view) end
  local lines = {
    { style = "bold", text = heading(sample, view) }, { text = view.tabs },
  }
  if page.head then
    lines[3] = { text = fit(page.head, view.columns), style = "reverse" }
  end
  local last
  page.first, last = M.window(#rows, at, page.first or 1,
                              math.max(view.rows - #lines - 1, 1))
  for i = page.first, last do
    lines[#lines + 1] = {
      text = name_of(rows[i].text, view.ascii),
      style = (i == at and "reverse " or "") .. (rows[i].style or ""),
    }
  end
  if #rows == 0 then
    lines[#lines + 1] = { text = "  nothing" }
  elseif last < #rows then
    lines[#lines + 1] = { text = ("  and %d more"):format(#rows - last) }
  end
  return clip(finish(lines, view, said(view) or hints(page, view)), view)
end

-- The lines of a screen, no wider than the view; the last stands at its
-- bottom.
---@param sample respool.cli.sample
---@param view respool.cli.view
---@return respool.cli.line[]
function M.draw(sample, view)
  if view.help then return clip(help(view), view) end
  local lines = head(sample, view)
  local room = view.rows - #lines - 2 -- without titles and the last line
  local dead_letters = math.floor(math.min(#sample.groups + 2, room / 3))
  if #sample.groups == 0 or dead_letters < 3 then dead_letters = 0 end
  add_queues(lines, sample, view, math.max(room - dead_letters, 1))
  add_groups(lines, sample, view, dead_letters - 1)
  if view.rows < math.huge then finish(lines, view, foot(view)) end
  return clip(lines, view)
end

return M
