-- SPDX-License-Identifier: MIT
--
-- respool top: a live view of a store, or one screen where there is no
-- terminal.

local arguments = require "respool.cli.base.arguments"
local compat = require "respool.support.compat"
local core = require "respool.core"
local dashboard = require "respool.cli.look.dashboard"
local keys = require "respool.cli.look.keys"
local live_view = require "respool.cli.look.live"
local location = require "respool.support.location"
local sampler = require "respool.cli.look.sampler"
local show = require "respool.cli.base.show"
local typed = require "respool.cli.look.typed"
local views = require "respool.cli.look.views"

local terminal = core.terminal
local huge, max = math.huge, math.max

local M = { summary = "watch a store live" }

local KEYS = {}
for key, sort in pairs(dashboard.SORTS) do KEYS[sort[1]] = key end

local function interval(text)
  local seconds, message = arguments.duration(text)
  if not seconds then return nil, message end
  if seconds >= live_view.LEAST and seconds <= live_view.MOST then
    return seconds
  end
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
  live_view.read(live)
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
    live_view.draw(live, live.io)
    local text = terminal.key(rest(live))
  until not text or keys.press(live, typed.whole(text))
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
