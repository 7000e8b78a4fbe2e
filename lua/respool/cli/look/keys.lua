-- SPDX-License-Identifier: MIT
--
-- Keys of the live view, and what each does to it.

local arguments = require "respool.cli.base.arguments"
local compat = require "respool.support.compat"
local dashboard = require "respool.cli.look.dashboard"
local live_view = require "respool.cli.look.live"
local output = require "respool.cli.base.output"
local typed = require "respool.cli.look.typed"
local views = require "respool.cli.look.views"

local terminal = require "respool.core".terminal
local huge, max, min = math.huge, math.max, math.min

local M = {}

-- The effect of each key; true ends the view.

local function quit()
  return true
end

local function toggle_help(live)
  live.view.help = not live.view.help
end

local function open(live, page)
  live.view.filter = nil
  table.insert(live.stack, page)
  live_view.read(live)
end

local function go_to(live, page)
  live.view.filter, live.view.help, live.stack = nil, false, { page }
  live_view.read(live)
end

-- Out of what is on top of all else; from a tab there is no way but out.
local function escape(live)
  local view = live.view
  if view.help then
    view.help = false
  elseif view.filter then
    view.filter = nil
  elseif #live.stack > 1 then
    table.remove(live.stack)
  else
    return true
  end
end

local function enter(live)
  local page, rows = live_view.top_of(live), live_view.rows_of(live)
  local row = rows[live_view.cursor_of(page, rows)]
  if row and page.enter and not live.view.help then
    open(live, page.enter(row.of))
  end
end

local function next_tab(step)
  return function(live)
    for i, page in ipairs(views.tabs) do
      if page == live.stack[1] then
        return go_to(live, views.tabs[(i - 1 + step) % #views.tabs + 1])
      end
    end
  end
end

-- Asks for a text on the last line; done(text) is called with it.
local function type_text(live, prompt, text, done)
  live.typing = { prompt = prompt, text = text, done = done }
end

local function begin_filter(live)
  live.view.filter = nil
  type_text(live, "only rows with: ", "", function(text)
    live.view.filter = text ~= "" and text:lower() or nil
  end)
end

local function stand(live)
  live.view.held = not live.view.held
end

local function redraw(live)
  live.anew = true
end

local function slower(live)
  live.view.interval = min(live.view.interval * 2, live_view.MOST)
end

local function faster(live)
  live.view.interval = max(live.view.interval / 2, live_view.LEAST)
end

local function move(step)
  return function(live)
    local page, rows = live_view.top_of(live), live_view.rows_of(live)
    local at = live_view.cursor_of(page, rows) + step
    page.index = max(min(at, #rows), 1)
    page.at = rows[page.index] and rows[page.index].key
  end
end

-- What fn(...) returns, to which the terminal is given back meanwhile.
local function outside(live, fn, ...)
  terminal.release()
  local ok, result, message = compat.pcall(fn, ...)
  arguments.check(terminal.hold())
  live.anew = true
  if not ok then return nil, arguments.text_of(result) end
  return result, message
end

-- As the shell's Ctrl-Z.
local function stop(live)
  outside(live, terminal.stop)
end

local ACTIONS = {
  q = quit, Q = quit, ["\3"] = quit, ["\4"] = quit, ["\28"] = quit,
  h = toggle_help, ["?"] = toggle_help,
  ["\27"] = escape, ["\8"] = escape, ["\127"] = escape,
  ["\13"] = enter, ["\10"] = enter, ["/"] = begin_filter,
  ["\9"] = next_tab(1), ["\27[Z"] = next_tab(-1),
  ["\27[C"] = next_tab(1), ["\27[D"] = next_tab(-1),
  ["\27OC"] = next_tab(1), ["\27OD"] = next_tab(-1),
  [" "] = stand, ["\12"] = redraw,
  ["+"] = slower, ["-"] = faster,
  ["\27[A"] = move(-1), ["\27[B"] = move(1),
  ["\27OA"] = move(-1), ["\27OB"] = move(1),
  ["\27[5~"] = move(-10), ["\27[6~"] = move(10),
  ["\27[H"] = move(-huge), ["\27[F"] = move(huge),
  ["\27[1~"] = move(-huge), ["\27[4~"] = move(huge),
}
for i, page in ipairs(views.tabs) do
  ACTIONS[("%d"):format(i)] = function(live) go_to(live, page) end
end

local function sort_by(live, key)
  local view = live.view
  view.reversed = view.sort == key and not view.reversed
  view.sort, view.first = key, 1
  views.queues.at, views.queues.index = nil, 1
end

local function row_of(live)
  local page, rows = live_view.top_of(live), live_view.rows_of(live)
  return rows[live_view.cursor_of(page, rows)]
end

local function act(live, action, of, text)
  local done, message = action.run(live.store, of, text)
  live.view.note = done or message
  live.stale = true
end

local function ask_question(live, action, of, text)
  live.asked = { action = action, of = of, text = text }
  live.view.question = output.cut(action.question(of),
                                  max(live.view.columns - 4, 1)) .. " y/n"
end

local function ask_text(live, action, of)
  local prompt, text = action.prompt(of)
  type_text(live, prompt, text or "", function(answered)
    act(live, action, of, answered)
  end)
end

-- Asks before a capital letter acts on the row under the cursor.
local function ask(live, action)
  local row, text = row_of(live), nil
  if not row then return end
  if not live.view.writable then
    live.view.note = "respool top only looks; with --writable it acts"
    return
  end
  if action.prompt then return ask_text(live, action, row.of) end
  if action.prepare then
    text, live.view.note = outside(live, action.prepare, live.store, row.of)
    if not text then return end
  end
  ask_question(live, action, row.of, text)
end

local function answer(live, key)
  local asked = live.asked
  live.asked, live.view.question = nil, nil
  if key ~= "y" and key ~= "Y" then return end
  act(live, asked.action, asked.of, asked.text)
end

-- Opens a page by a small letter. A page about a row needs one: there may be no
-- queues, or none that passes the filter.
local function open_view(live, view)
  local row = row_of(live)
  if view.of_row and not row then return end
  if view.instead then table.remove(live.stack) end
  open(live, view.open(row and row.of))
end

-- The last line while a text is typed: the end of it is shown.
local function typed_line(live)
  local typing = live.typing
  if not typing then return nil end
  local text = output.clean(typing.text) .. "_"
  local room = max(live.view.columns - output.width(text), 1)
  return output.cut(typing.prompt, room) .. text
end

-- A key of a text that is typed.
local function type_in(live, key)
  local typing = live.typing
  if key == "\27" then
    live.typing = nil
  elseif key == "\13" or key == "\10" then
    live.typing = nil
    typing.done(typing.text)
  elseif key == "\21" then -- Ctrl-U
    typing.text = ""
  elseif key == "\8" or key == "\127" then
    typing.text = typing.text:gsub("[^\128-\191][\128-\191]*$", "")
  elseif #key == 1 and not key:find "%c" then
    typing.text = typing.text .. key
  end
  live.view.question = typed_line(live)
end

-- A pasted text is text where one is typed, without its control characters,
-- and nothing elsewhere.
local function paste(live, text)
  local typing = live.typing
  if typing then
    typing.text = typing.text .. text:gsub("%c", "")
    live.view.question = typed_line(live)
  elseif not live.asked then
    live.view.note = "a pasted text presses no keys"
  end
end

-- The effect of a key; true ends the view.
local function press_key(live, key)
  local page = live_view.top_of(live)
  if key == "\3" then return true end
  if key == "\26" then return stop(live) end
  if live.asked then return answer(live, key) end
  if live.typing then return type_in(live, key) end
  live.view.note = nil
  local over
  if page == views.queues and dashboard.SORTS[key] and not live.view.help then
    sort_by(live, key)
  elseif page.actions and page.actions[key] and not live.view.help then
    ask(live, page.actions[key])
  elseif page.views and page.views[key] and not live.view.help then
    open_view(live, page.views[key])
  elseif ACTIONS[key] then
    over = ACTIONS[key](live)
  end
  if live.typing then type_in(live, "") end
  return over
end

-- What was typed before a question could be read does not answer it: a text
-- that is pasted acts on nothing.
function M.press(live, text)
  for key, pasted in typed.each(text) do
    local before = live.asked or live.typing
    if pasted then
      paste(live, pasted)
    elseif press_key(live, key) then
      return true
    end
    local asks = live.asked or live.typing
    if asks and not before and key ~= "/" then return typed.discard() end
  end
end

return M
