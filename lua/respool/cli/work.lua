-- SPDX-License-Identifier: MIT
--
-- respool work: the handler of a worker script, in processes of its own, with
-- one line that says how the queue is. What died, a worker or an item, is
-- told by the exit status.

local arguments = require "respool.cli.arguments"
local core = require "respool.core"
local output = require "respool.cli.output"
local progress = require "respool.cli.progress"
local processes = require "respool.worker_processes"
local script = require "respool.worker_script"

local check = arguments.check

local M = { summary = "work on a queue by a worker script" }

function M.options(command)
  arguments.add_store(command)
  command:argument("script",
    "Worker script: a Lua file that returns { queue =, "
    .. "handle = function(payload, item) end, ... }."):argname "SCRIPT"
  command:option("--workers", "Processes that work.", "1"):argname "N"
    :convert(arguments.whole(1, 1000))
  command:flag("--until-empty", "Stop when nothing is ready, "
    .. "leased or retrying; items scheduled for later are left.")
  command:option("--lot", "Items that a worker takes at once.")
    :argname "N":convert(arguments.whole(1, 2^20))
  command:option("--deadline", "From a signal until workers are killed.", "10s")
    :argname "TIME":convert(arguments.duration)
  command:epilog [[
SIGINT (Ctrl-C) and SIGTERM stop it cleanly: each worker finishes the item in
hand and gives the rest back. A second one stops it now. A worker that dies is
replaced. The exit status is 1 when a worker died, or an item did and became a
dead letter; `respool dead` shows those.

Example:
  respool work shop.respool deliver.lua --workers 4 --until-empty]]
end


-- The script, as far as it is needed here: the workers load it themselves.

local function load_script(path)
  local ok, job = pcall(script.load, path)
  if not ok then arguments.misuse(arguments.text_of(job)) end
  return job
end

local function open_queue(store, job, path)
  local name, why = arguments.own_name(job.queue)
  if not name then arguments.misuse(("%s: queue %s"):format(path, why)) end
  local ok, queue, message = pcall(script.open, store, job)
  if not ok then
    arguments.misuse(arguments.text_with(queue, path))
  end
  return (check(queue, message))
end


-- The status line.

local LOOK = 0.25 -- seconds between looks at the figures

local function new_watch(io, queue)
  return {
    io = io, queue = queue, progress = progress.new(io), next_at = 0,
    before = check(queue:stats()), alive = 0,
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
  return ("%s: %d worker%s, %s done, %s/s, %s died; %s ready, %s retrying, "
    .. "%s scheduled")
    :format(watch.queue.name, watch.alive, watch.alive == 1 and "" or "s",
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

-- What it came to, in one line; whether an item died.
local function conclude(watch)
  local stats = check(watch.queue:stats())
  watch.progress:clear()
  local later = stats.scheduled > 0
    and ("; %s scheduled for later"):format(output.number(stats.scheduled))
    or ""
  watch.io.stderr:write(("%s: %s done, %s retried, %s died, in %s%s\n"):format(
    watch.queue.name, output.number(since(watch, stats, "done")),
    output.number(since(watch, stats, "retried")),
    output.number(since(watch, stats, "died")),
    output.duration(watch.progress:elapsed()), later))
  return since(watch, stats, "died") > 0
end


local function work(args, watch)
  local ok, counts, message = pcall(processes.run, {
    store = args.store, script = args.script, workers = args.workers,
    deadline = args.deadline, open = { create = false },
    work = { stop_when_empty = args.until_empty, batch = args.batch },
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
  local job = load_script(args.script)
  local store = arguments.open(io, args.store)
  local watch = new_watch(io, open_queue(store, job, args.script))
  work(args, watch)
  local died = conclude(watch)
  return (died or watch.died) and 1 or 0
end

return M
