-- SPDX-License-Identifier: MIT
--
-- respool work: the handler of a worker script, in processes of its own. On a
-- terminal a status line shows the queue. The exit status is 1 if a worker or
-- an item died.

local arguments = require "respool.cli.base.arguments"
local core = require "respool.core"
local failure_log = require "respool.cli.base.failure_log"
local json = require "respool.support.json"
local location = require "respool.support.location"
local otlp = require "respool.cli.base.otlp"
local output = require "respool.cli.base.output"
local progress = require "respool.cli.base.progress"
local processes = require "respool.worker_processes"
local script = require "respool.worker_script"

local check = arguments.check

local M = { summary = "work on a queue by a worker script" }

function M.options(command)
  arguments.add_store(command)
  command:argument("script",
    "Worker script: a Lua file that returns { queue =, "
    .. "handle = function(payload, item) end, ... }."):argname "SCRIPT"
  command:option("--workers", "Number of worker processes.", "1"):argname "N"
    :convert(arguments.whole(1, 1000))
  command:option("--name", "Name of the workers for `respool worker list`. "
    .. "(default: the queue's)"):argname "NAME":convert(arguments.name)
  command:flag("--until-empty", "Stop when nothing is ready, leased or "
    .. "retrying. Items scheduled for later do not count.")
  command:option("--batch", "Let a worker take N items at once. By default it "
    .. "takes as many as the handler does in about 50 ms.")
    :argname "N":convert(arguments.whole(1, 2^20))
  command:option("--deadline", "Kill the workers so long after the signal that "
    .. "stops them.", "10s"):argname "TIME":convert(arguments.duration)
  otlp.add_options(command)
  failure_log.add_options(command)
  command:epilog [[
A line on stderr reports each failure of the handler. A summary at the end
counts what was done, and the new dead letters by group. The script can require
modules from its own directory.

SIGINT (Ctrl-C) and SIGTERM stop it cleanly: each worker finishes its item and
releases the others; the exit status is 0. A second signal kills the workers. A
worker that dies is replaced. The exit status is 1 when a worker died or an item
became a dead letter.

Example:
  respool work shop.respool deliver.lua --workers 4 --until-empty]]
end


-- The script is loaded here to check it; the workers load it themselves.

local function load_script(path)
  local ok, loaded = pcall(script.load, path)
  if not ok then arguments.misuse(arguments.text_of(loaded)) end
  return loaded
end

local function open_queue(store, loaded, path)
  local name, why = arguments.own_name(loaded.queue)
  if not name then arguments.misuse(("%s: queue %s"):format(path, why)) end
  local ok, queue, message = pcall(script.open, store, loaded)
  if not ok then
    arguments.misuse(arguments.text_with(queue, path))
  end
  return (check(queue, message))
end


-- The status line.

local LOOK = 0.25 -- seconds between looks at the figures

-- The number of the newest dead letter.
local function newest_dead(queue)
  local list = check(queue.dead:list { order = "newest", limit = 1 })
  return list[1] and list[1].number or 0
end

local function new_watch(io, queue, args)
  return {
    io = io, queue = queue, next_at = 0, alive = 0, args = args,
    progress = progress.new(io, { silent = args.quiet }),
    log = failure_log.form_of(args),
    before = check(queue:stats()), last_dead = newest_dead(queue),
  }
end

local function since(watch, stats, name)
  return stats[name] - watch.before[name]
end

local function rate(watch, stats, now)
  local last = watch.last or { at = watch.began or now, done = 0 }
  local done = since(watch, stats, "done")
  watch.last = { at = now, done = done }
  return now > last.at and (done - last.done) / (now - last.at) or 0
end

local function status_line(watch, stats, now)
  return ("%s: %s, %s done, %s/s, %s died; %s ready, %s retrying, "
    .. "%s scheduled"):format(
      watch.queue.name, output.count(watch.alive, "worker"),
      output.number(since(watch, stats, "done")),
      output.short(rate(watch, stats, now)),
      output.number(since(watch, stats, "died")),
      output.number(stats.ready), output.number(stats.retrying),
      output.number(stats.scheduled))
end

local function show(watch)
  local now = core.mono() / 1e6
  if not watch.progress.shown or now < watch.next_at then return end
  watch.next_at = now + LOOK
  local stats = watch.queue:stats()
  if stats then watch.progress:show(status_line(watch, stats, now)) end
end

local function tell_exit(watch, exit)
  if exit.how == "exit 0" then return end
  watch.died = true
  watch.progress:clear()
  watch.io.stderr:write(("respool: worker %d ended, %s%s\n"):format(
    exit.worker, exit.how,
    exit.message and ": " .. output.clean(arguments.text_of(exit.message))
      or ""))
end


-- The summary.

local MOST = 1000  -- dead letters that are counted by group
local SHOWN = 10   -- groups
local COLUMNS = 72 -- of the name of a group

-- The dead letters since the beginning, by group, or by error where they have
-- none; most first. Also their number.
local function new_groups(watch)
  local counts, groups = {}, {}
  local dead_letters = check(watch.queue.dead:list {
    after = watch.last_dead, limit = MOST,
  })
  for _, d in ipairs(dead_letters) do
    local group = output.cut(output.clean(d.group or d.error or d.reason),
                             COLUMNS)
    if not counts[group] then groups[#groups + 1] = group end
    counts[group] = (counts[group] or 0) + 1
  end
  table.sort(groups, function(a, b)
    return counts[a] > counts[b] or counts[a] == counts[b] and a < b
  end)
  return groups, counts, #dead_letters
end

local function show_groups(watch, died)
  local groups, counts = new_groups(watch)
  local err, rest = watch.io.stderr, died
  for i = 1, math.min(#groups, SHOWN) do
    local n = counts[groups[i]]
    err:write(("  %s died: %s\n"):format(output.number(n), groups[i]))
    rest = rest - n
  end
  if rest > 0 then
    err:write(("  %s more died\n"):format(output.number(rest)))
  end
  err:write(("  see: respool dead groups %s %s\n"):format(
    location.shown(watch.args.store), output.clean(watch.queue.name)))
end

local function show_summary(watch, stats, died)
  local rest = stats.scheduled > 0 and ("; %s scheduled"):format(
    output.number(stats.scheduled)) or ""
  watch.io.stderr:write(("%s: %s done, %s retried, %s died, in %s%s\n"):format(
    output.clean(watch.queue.name),
    output.number(since(watch, stats, "done")),
    output.number(since(watch, stats, "retried")), output.number(died),
    output.duration(watch.progress:elapsed()), rest))
  if died > 0 then show_groups(watch, died) end
end

local function log_summary(watch, stats, died)
  local _, counts = new_groups(watch)
  watch.io.stderr:write(json.encode {
    time = os.time(), level = "info", message = "the work has ended",
    queue = watch.queue.name, done = since(watch, stats, "done"),
    retried = since(watch, stats, "retried"), died = died,
    scheduled = stats.scheduled,
    seconds = math.floor(watch.progress:elapsed() * 1000 + 0.5) / 1000,
    groups = counts,
  }, "\n")
end

-- Writes the summary; returns whether an item died.
local function conclude(watch)
  local stats = check(watch.queue:stats())
  local died = since(watch, stats, "died")
  watch.progress:clear()
  if watch.log.json and not watch.log.quiet then
    log_summary(watch, stats, died)
  elseif not watch.log.quiet then
    show_summary(watch, stats, died)
  end
  return died > 0
end


local function work(args, watch)
  local log = failure_log.new(watch.io, watch.log)
  local ok, counts, message = pcall(processes.run, {
    store = args.store, script = args.script, workers = args.workers,
    deadline = args.deadline, tracer = otlp.maker(args, log),
    open = { create = false, log = log },
    work = {
      stop_when_empty = args.until_empty, batch = args.batch, name = args.name,
    },
    on_exit = function(exit) tell_exit(watch, exit) end,
    on_tick = function(alive)
      watch.alive = alive
      show(watch)
    end,
  })
  if not ok then arguments.fail(arguments.text_with(counts, args.script)) end
  check(counts, message)
end

function M.run(args, io)
  local loaded = load_script(args.script)
  local store = arguments.open(io, args.store)
  local watch = new_watch(io, open_queue(store, loaded, args.script), args)
  work(args, watch)
  local died = conclude(watch)
  return (died or watch.died) and 1 or 0
end

return M
