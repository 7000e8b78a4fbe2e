-- SPDX-License-Identifier: MIT
--
-- respool top: a live view of a store, or one screen where there is no
-- terminal.

local arguments = require "respool.cli.base.arguments"
local compat = require "respool.support.compat"
local core = require "respool.core"
local dashboard = require "respool.cli.look.dashboard"
local location = require "respool.support.location"
local sampler = require "respool.cli.look.sampler"
local output = require "respool.cli.base.output"
local screen = require "respool.cli.look.screen"
local show = require "respool.cli.base.show"
local views = require "respool.cli.look.views"

local terminal = core.terminal
local huge, max, min = math.huge, math.max, math.min

local M = { summary = "watch a store live" }

local KEYS = {}
for key, sort in pairs(dashboard.SORTS) do KEYS[sort[1]] = key end

local LEAST, MOST = 0.1, 60 -- seconds between two looks

local function interval(text)
  local seconds, message = arguments.duration(text)
  if not seconds then return nil, message end
  if seconds >= LEAST and seconds <= MOST then return seconds end
  return nil, ("'%s' is not between 100ms and 60s"):format(text)
end

function M.options(command)
  arguments.add_store(command)
  command:option("--interval", "Refresh so often, such as 500ms.", "2s")
    :argname "DURATION":convert(interval)
  command:option("--sort", "Sort queues by this column.", "name"):choices {
    "name", "ready", "leased", "scheduled", "retrying", "dead", "oldest",
    "in", "done", "failed",
  }
  command:flag("--writable", "Let capital letters act, each after a question: "
    .. "pause, purge and set up queues, run, edit, move, kill and cancel "
    .. "items, run and pause schedules, replay and remove dead letters, stop "
    .. "workers and replays.")
  command:flag("--ascii", "Draw with ASCII characters only.")
  command:flag("--once", "Print one screen after one interval, and end.")
  command:epilog [[
Tabs show queues, who is at work, what is scheduled, retrying and dead,
schedules, replays and the store; Enter looks into what is under the cursor, and
p, c and v show a queue's policy, charts and partitions. Press h for the keys, q
to quit. Without --writable nothing in the store changes. NO_COLOR is heeded.
If input or output is not a terminal, or TERM is dumb, it acts as with --once.

Example:
  respool top shop.respool --sort oldest]]
end

-- Whether the terminal's characters are UTF-8, as the locale says.
local function is_utf8()
  for _, name in ipairs { "LC_ALL", "LC_CTYPE", "LANG" } do
    local locale = os.getenv(name)
    if locale and locale ~= "" then
      return locale:lower():find "utf%-?8" ~= nil
    end
  end
  return false
end

local function new_view(args)
  return {
    path = location.shown(args.store), interval = args.interval,
    sort = KEYS[args.sort],
    ascii = args.ascii or not is_utf8(), first = 1, columns = 80, rows = 24,
    writable = args.writable,
  }
end


-- One look.

local function once(store, view, io)
  local watch = sampler.new(store)
  arguments.check(watch:sample())
  core.process.nap(view.interval)
  local sample = arguments.check(watch:sample())
  view.columns, view.rows = max((io.stdout:size()), 100), huge
  if io.stdout:isatty() then view.columns = io.stdout:size() end
  for _, line in ipairs(dashboard.draw(sample, view)) do
    io.stdout:write((line.text:gsub("%s+$", "")), "\n")
  end
end


-- The page on the screen: the top of a stack, whose bottom is a tab.

local function top_of(live)
  return live.stack[#live.stack]
end

-- The rows of the page that pass the filter.
local function rows_of(live)
  local page, list = top_of(live), {}
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
local function cursor_of(page, rows)
  local at = min(page.index or 1, #rows)
  for i, row in ipairs(rows) do
    if row.key == page.at then at = i end
  end
  page.index, page.at = at, rows[at] and rows[at].key
  return at
end

-- Reads the page.
local function read(live)
  local page = top_of(live)
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
  local view, page, rows = live.view, top_of(live), rows_of(live)
  local at = cursor_of(page, rows)
  local only = view.filter and "   only " .. output.clean(view.filter) or ""
  view.tabs = output.clean(tabs_text(live, view.columns - output.width(only)))
    .. only
  if page ~= views.queues then
    return dashboard.draw_page(live.sample, view, page, rows, at)
  end
  view.at = page.at
  return dashboard.draw(live.sample, view)
end

local function draw(live, io)
  local view = live.view
  local columns, rows = io.stdout:size()
  local text = ""
  if columns ~= view.columns or rows ~= view.rows or live.anew then
    text, live.drawn, live.anew = "\27[2J", {}, false
    view.columns, view.rows = columns, rows
    read(live)
  end
  text = text .. screen.changes(lines_of(live), live.drawn)
  if text ~= "" then arguments.check(terminal.write(text)) end
end


-- Keys: the effect of each on the view. True ends the view.

local function quit()
  return true
end

local function toggle_help(live)
  live.view.help = not live.view.help
end

local function open(live, page)
  live.view.filter = nil
  table.insert(live.stack, page)
  read(live)
end

local function go_to(live, page)
  live.view.filter, live.view.help, live.stack = nil, false, { page }
  read(live)
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
  local page, rows = top_of(live), rows_of(live)
  local row = rows[cursor_of(page, rows)]
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
  live.view.interval = min(live.view.interval * 2, MOST)
end

local function faster(live)
  live.view.interval = max(live.view.interval / 2, LEAST)
end

local function move(step)
  return function(live)
    local page, rows = top_of(live), rows_of(live)
    local at = cursor_of(page, rows) + step
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
  local page, rows = top_of(live), rows_of(live)
  return rows[cursor_of(page, rows)]
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
  type_text(live, prompt, text or "", function(typed)
    act(live, action, of, typed)
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

local SPLIT = 0.05 -- seconds that an escape sequence may be under way
local PASTING = 1  -- and the rest of a pasted text

-- How long what was typed may be in the middle of something: an escape
-- sequence, or a text that is pasted (bracketed, as xterm does it); else nil.
local function is_partial(typed)
  local pasted = typed:match ".*\27%[200~(.*)"
  if pasted and not pasted:find("\27[201~", 1, true) then return PASTING end
  return typed:find "\27[%[O]?[0-?]*$" and SPLIT or nil
end

-- A text that was typed, to the end of what it ends in: a read may end within.
local function whole_keys(typed)
  local wait = is_partial(typed)
  while wait do
    local more = terminal.key(wait)
    if not more or more == "" then break end
    typed = typed .. more
    wait = is_partial(typed)
  end
  return typed
end

-- The keys in a text that was typed; an escape sequence is one key, and so is
-- a pasted text, which comes second.
local function each_key(typed)
  local at = 1
  return function()
    if at > #typed then return nil end
    local key = typed:match("^\27[%[O][0-?]*[@-~]", at) or typed:sub(at, at)
    at = at + #key
    if key ~= "\27[200~" then return key end
    local last, after = typed:find("\27[201~", at, true)
    local pasted = typed:sub(at, (last or 0) - 1)
    at = (after or #typed) + 1
    return key, pasted
  end
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
  local page = top_of(live)
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

local function discard_typed()
  repeat local typed = terminal.key(0) until not typed or typed == ""
end

-- What was typed before a question could be read does not answer it: a text
-- that is pasted acts on nothing.
local function press(live, typed)
  for key, pasted in each_key(typed) do
    local before = live.asked or live.typing
    if pasted then
      paste(live, pasted)
    elseif press_key(live, key) then
      return true
    end
    local asks = live.asked or live.typing
    if asks and not before and key ~= "/" then return discard_typed() end
  end
end


-- The live view.

local function seconds()
  return core.mono() / 1e6
end

-- A failure is shown, and the next refresh tries again.
local function look(live)
  if live.stale then live.watch:recount() end
  local sample, message = live.watch:sample()
  live.sample = sample or live.sample
  live.view.message = message
  live.looked_at, live.stale = seconds(), false
  read(live)
end

-- Seconds until the next look.
local function rest(live)
  if live.stale then return 0 end
  if live.view.held then return 3600 end
  return max(live.looked_at + live.view.interval - seconds(), 0)
end

local function loop(live)
  repeat
    if rest(live) == 0 then look(live) end
    draw(live, live.io)
    local typed = terminal.key(rest(live))
  until not typed or press(live, whole_keys(typed))
end

local function watch_live(store, view, io)
  local live = {
    watch = sampler.new(store), view = view, drawn = {}, io = io,
    looked_at = seconds(), store = store, stack = { views.queues },
  }
  live.sample = arguments.check(live.watch:sample())
  arguments.check(terminal.hold())
  compat.guard(loop, live, terminal.release)
  terminal.release()
end

function M.run(args, io)
  local store = arguments.open(io, args.store,
                               not args.writable and show.LOOK or nil)
  local view = new_view(args)
  if args.once or not io.stdout:isatty() or not terminal.isatty(0)
     or os.getenv "TERM" == "dumb" then
    return once(store, view, io)
  end
  watch_live(store, view, io)
end

return M
