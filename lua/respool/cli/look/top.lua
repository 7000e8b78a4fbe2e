-- SPDX-License-Identifier: MIT
--
-- respool top: a live view of a store, or one screen where there is no
-- terminal.

local arguments = require "respool.cli.base.arguments"
local compat = require "respool.support.compat"
local core = require "respool.core"
local dashboard = require "respool.cli.look.dashboard"
local sampler = require "respool.cli.look.sampler"
local show = require "respool.cli.base.show"

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
  command:flag("--ascii", "Draw with ASCII characters only.")
  command:flag("--once", "Print one screen after one interval, and end.")
  command:epilog [[
Press h for the keys, q to quit. Nothing in the store changes. If input or
output is not a terminal, it acts as with --once.

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
    path = args.store, interval = args.interval, sort = KEYS[args.sort],
    ascii = args.ascii or not is_utf8(), first = 1, columns = 80, rows = 24,
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


-- Drawing: only lines that are not there already, in one write.

local STYLES = { bold = "\27[1m", reverse = "\27[7m" }

local function styled(line)
  if not line.style then return line.text end
  return STYLES[line.style] .. line.text .. "\27[0m"
end

-- Text that makes the screen show these lines; `drawn` is what it shows.
local function changes(lines, drawn)
  local parts = {}
  for i = 1, max(#lines, #drawn) do
    local text = lines[i] and styled(lines[i]) or ""
    if text ~= drawn[i] then
      parts[#parts + 1] = ("\27[%d;1H%s\27[K"):format(i, text)
      drawn[i] = text
    end
  end
  return table.concat(parts)
end

local function draw(live, io)
  local view = live.view
  local columns, rows = io.stdout:size()
  local text = ""
  if columns ~= view.columns or rows ~= view.rows or live.anew then
    text, live.drawn, live.anew = "\27[2J", {}, false
  end
  view.columns, view.rows = columns, rows
  text = text .. changes(dashboard.draw(live.sample, view), live.drawn)
  if text ~= "" then arguments.check(terminal.write(text)) end
end


-- Keys: the effect of each on the view. True ends the view.

local function quit()
  return true
end

local function toggle_help(live)
  live.view.help = not live.view.help
end

local function escape(live)
  if not live.view.help then return true end
  live.view.help = false
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

local function scroll(step)
  return function(live)
    local last = max(#live.sample.queues, 1)
    live.view.first = min(max(live.view.first + step, 1), last)
  end
end

-- As the shell's Ctrl-Z.
local function stop(live)
  terminal.release()
  terminal.stop()
  arguments.check(terminal.hold())
  live.anew = true
end

local ACTIONS = {
  q = quit, Q = quit, ["\3"] = quit, ["\4"] = quit, ["\28"] = quit,
  h = toggle_help, ["?"] = toggle_help, ["\27"] = escape,
  [" "] = stand, ["\12"] = redraw, ["\26"] = stop,
  ["+"] = slower, ["-"] = faster,
  ["\27[A"] = scroll(-1), ["\27[B"] = scroll(1),
  ["\27OA"] = scroll(-1), ["\27OB"] = scroll(1),
  ["\27[5~"] = scroll(-10), ["\27[6~"] = scroll(10),
}

local function sort_by(live, key)
  local view = live.view
  view.reversed = view.sort == key and not view.reversed
  view.sort, view.first = key, 1
end

-- The keys in a text that was typed; an escape sequence is one key.
local function each_key(typed)
  local at = 1
  return function()
    if at > #typed then return nil end
    local key = typed:match("^\27[%[O][%d;]*[%a~]", at) or typed:sub(at, at)
    at = at + #key
    return key
  end
end

local function press(live, typed)
  for key in each_key(typed) do
    if dashboard.SORTS[key] and not live.view.help then
      sort_by(live, key)
    elseif ACTIONS[key] and ACTIONS[key](live) then
      return true
    end
  end
end


-- The live view.

local function seconds()
  return core.mono() / 1e6
end

-- A failure is shown, and the next refresh tries again.
local function look(live)
  local sample, message = live.watch:sample()
  live.sample = sample or live.sample
  live.view.message = message
  live.looked_at = seconds()
end

-- Seconds until the next look.
local function rest(live)
  if live.view.held then return 3600 end
  return max(live.looked_at + live.view.interval - seconds(), 0)
end

local function loop(live)
  repeat
    if rest(live) == 0 then look(live) end
    draw(live, live.io)
    local typed = terminal.key(rest(live))
  until not typed or press(live, typed)
end

local function watch_live(store, view, io)
  local live = {
    watch = sampler.new(store), view = view, drawn = {}, io = io,
    looked_at = seconds(),
  }
  live.sample = arguments.check(live.watch:sample())
  arguments.check(terminal.hold())
  compat.guard(loop, live, terminal.release)
  terminal.release()
end

function M.run(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  local view = new_view(args)
  if args.once or not io.stdout:isatty() or not terminal.isatty(0) then
    return once(store, view, io)
  end
  watch_live(store, view, io)
end

return M
