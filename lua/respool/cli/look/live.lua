-- SPDX-License-Identifier: MIT
--
-- The live view: a stack of pages, the rows of the one on top, and the screen.

local arguments = require "respool.cli.base.arguments"
local core = require "respool.core"
local dashboard = require "respool.cli.look.dashboard"
local output = require "respool.cli.base.output"
local screen = require "respool.cli.look.screen"
local views = require "respool.cli.look.views"

local terminal, min = core.terminal, math.min

local M = { LEAST = 0.1, MOST = 60 } -- seconds between two looks

-- The page on the screen: the top of a stack, whose bottom is a tab.
function M.top_of(live)
  return live.stack[#live.stack]
end

-- The rows of the page that pass the filter.
function M.rows_of(live)
  local page, list = M.top_of(live), {}
  if page == views.queues then
    for i, q in ipairs(dashboard.sorted(live.sample.queues, live.view)) do
      list[i] = { key = q.name, of = q.name }
    end
    return list
  end
  for _, row in ipairs(page.rows or {}) do
    if dashboard.passes(row.text, live.view) then list[#list + 1] = row end
  end
  return list
end

-- Which row is under the cursor: the same as before, else one in its place.
function M.cursor_of(page, rows)
  local at = min(page.index or 1, #rows)
  for i, row in ipairs(rows) do
    if row.key == page.at then at = i end
  end
  page.index, page.at = at, rows[at] and rows[at].key
  return at
end

-- Reads the page.
function M.read(live)
  local page = M.top_of(live)
  if not page.read or page.still and page.rows then return end
  local rows, head = page.read {
    store = live.store, columns = live.view.columns,
    ascii = live.view.ascii, groups = live.sample.groups,
    queues = live.sample.queues,
  }
  if not rows then
    live.view.message = head
    rows, head = page.rows or {}, page.head
  end
  page.rows, page.head = rows, head
end

local function tabs_text(live, room)
  local parts = {}
  if #live.stack > 1 then
    for i, page in ipairs(live.stack) do parts[i] = page.name end
    return table.concat(parts, " > ")
  end
  local here
  for i, page in ipairs(views.tabs) do
    parts[i] = ("%d %s"):format(i, page.name)
    if page == live.stack[1] then
      here = "[" .. parts[i] .. "]"
      parts[i] = here
    end
  end
  local text = table.concat(parts, " ")
  return #text <= room and text
    or ("%s 1 to %d, Tab"):format(here, #views.tabs)
end


-- Drawing.

local function lines_of(live)
  local view, page, rows = live.view, M.top_of(live), M.rows_of(live)
  local at = M.cursor_of(page, rows)
  local only = view.filter and "   only " .. output.clean(view.filter) or ""
  view.tabs = output.clean(tabs_text(live, view.columns - output.width(only)))
    .. only
  if page ~= views.queues then
    return dashboard.draw_page(live.sample, view, page, rows, at)
  end
  view.at = page.at
  return dashboard.draw(live.sample, view)
end

function M.draw(live, io)
  local view = live.view
  local columns, rows = io.stdout:size()
  local text = ""
  if columns ~= view.columns or rows ~= view.rows or live.anew then
    text, live.drawn, live.anew = "\27[2J", {}, false
    view.columns, view.rows = columns, rows
    M.read(live)
  end
  text = text .. screen.changes(lines_of(live), live.drawn)
  if text ~= "" then arguments.check(terminal.write(text)) end
end

return M
