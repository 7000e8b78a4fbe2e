-- SPDX-License-Identifier: MIT
--
-- Work in several processes: a parent that forks workers, each of which opens
-- the store, loads the worker script and works on its queue. A worker that dies
-- is replaced, after a pause that grows from 0.1 s to 30 s while it keeps on
-- dying; one that comes to its end is not. On SIGTERM or SIGINT, or when the
-- parent ends, a worker finishes the item in hand and releases the rest.

local core = require "respool.core"
local compat = require "respool.support.compat"
local options = require "respool.support.options"
local outcome = require "respool.support.outcome"
local script = require "respool.worker_script"
local store_of = require "respool.store"
local work = require "respool.consume.work"

local process = core.process

local M = {}

---@class respool.work_processes_options
---@field store string path
---@field script string path of a worker script
---@field open respool.open_options? of the store
---@field work respool.work_options? of queue:work in each worker
---@field tracer (fun(): respool.tracer)? called in each worker: the tracer of
--- its store, whose `close` is called at the end, if it has one: with the
--- seconds it may take, where the worker was asked to stop
---@field workers integer? 4
---@field deadline number? seconds from a signal until workers are killed; 10
---@field restart boolean? false: what dies is not replaced
---@field on_exit fun(exit: respool.worker_exit)? called when a worker has ended
---@field on_tick fun(alive: integer)? called many times a second with the
--- number of workers there are
--- When one of these raises, the workers are killed and the error goes on

---@class respool.worker_exit
---@field pid integer
---@field worker integer 1 to workers
---@field how string such as "exit 0", "signal 9"
---@field message string? what ended it

---@class respool.work_processes_counts
---@field restarts integer
---@field exits table<string, integer> by how workers ended
---@field errors string[] the first few messages of those that failed

local function path(value)
  if type(value) == "string" and value ~= "" and value ~= ":memory:"
     and not value:find("\0", 1, true) then
    return value
  end
  return nil, "a path that several processes can open"
end

local FORM = {
  of = "respool.work_processes",
  store = path, script = path,
  open = options.table, work = options.table, tracer = options.callable,
  workers = options.whole(1, 1000),
  deadline = options.seconds,
  restart = options.boolean,
  on_exit = options.callable,
  on_tick = options.callable,
}

local DEADLINE, WORKERS, ERRORS = 10, 4, 10
local POLL = 0.02             -- seconds between looks at the workers
local LEAST, MOST = 0.1, 30   -- of the pause before a worker is replaced
local LIVED = 60              -- after so long a death is a first one again
local FAILED, UNABLE = 1, 2   -- exit status; UNABLE: it could not begin

local function now()
  return core.mono() / 1e6
end


-- The worker.

local function check(ok, message, code)
  if not ok then error({ message = message, code = code }, 0) end
  return ok
end

-- Only one of the workers replays in the background.
local function replay(queue, worker, index)
  if index == 1 and worker.replay and worker.replay.interval then
    queue.dead:replay_every(worker.replay)
  end
end

-- The options of the store, with a tracer of this process's own.
local function open_options(o)
  if not o.tracer then return o.open end
  local same = {}
  for name, value in pairs(o.open or {}) do same[name] = value end
  same.tracer = o.tracer()
  return same
end

local function prepare(team, index)
  local worker = script.load(team.o.script)
  local store = check(store_of.open(team.o.store, open_options(team.o)))
  local queue = check(script.open(store, worker))
  function queue.signal()
    return process.signals() > team.signals
  end
  replay(queue, worker, index)
  return store, queue, worker
end

-- Code and text of an error, as the parent reads them.
local function last_words(err)
  local code = type(err) == "table" and rawget(err, "code") or ""
  return ("%s\n%s"):format(code, outcome.describe(err).text)
end

-- A worker that is asked to stop has time until the deadline, at which it is
-- killed: half of it is for what its tracer still has to send.
local function close_tracer(team, tracer)
  if not tracer or not tracer.close then return end
  local stopped = process.signals() > team.signals
  tracer.close(stopped and (team.o.deadline or DEADLINE) / 2 or nil)
end

-- Runs a worker in this process, which it ends.
local function be_worker(team, index, pipe)
  local ok, store, queue, worker = pcall(prepare, team, index)
  if not ok then process.exit(UNABLE, pipe, last_words(store)) end
  local problem
  ok, problem = pcall(function()
    check(queue:work(worker.handle, team.o.work))
    check(store:close())
  end)
  local flushed, trouble = pcall(close_tracer, team, store.tracer)
  if ok and not flushed then ok, problem = false, trouble end
  process.exit(ok and 0 or FAILED, pipe, not ok and last_words(problem) or nil)
end


-- The parent: starting.

-- A slot is the place of a worker and of those that replace it.
local function start(team, slot)
  local pid, pipe, code = process.fork()
  if not pid then return nil, pipe, code end
  if pid == 0 then
    local ok, problem = pcall(be_worker, team, slot.index, pipe)
    process.exit(FAILED, pipe, not ok and last_words(problem) or nil)
  end
  slot.pid, slot.pipe, slot.due = pid, pipe, nil
  slot.starts, slot.started = slot.starts + 1, now()
  return true
end

local function pause_after(slot)
  if now() - slot.started >= LIVED then slot.deaths = 0 end
  slot.deaths = slot.deaths + 1
  return math.min(LEAST * 2 ^ (slot.deaths - 1), MOST)
end

local function note_error(team, message)
  local errors = team.counts.errors
  if #errors < ERRORS then table.insert(errors, message) end
end

-- Replaces those whose pause is over.
local function revive(team)
  for _, slot in ipairs(team) do
    if slot.due and now() >= slot.due then
      local ok, message = start(team, slot)
      if ok then
        team.counts.restarts = team.counts.restarts + 1
      else
        note_error(team, message)
        slot.due = now() + pause_after(slot)
      end
    end
  end
end


-- Stopping.

local function stop_all(team, kill)
  for _, slot in ipairs(team) do
    slot.due = nil
    if slot.pid then process.stop(slot.pid, kill) end
  end
end

local function begin_to_stop(team)
  if team.ends then return end
  team.ends = now() + (team.o.deadline or DEADLINE)
  stop_all(team, false)
end

-- The first signal stops the workers; a second one, or the deadline, kills.
local function heed(team)
  local signals = process.signals() - team.signals
  if signals > 0 then begin_to_stop(team) end
  if team.ends and (signals > 1 or now() >= team.ends) then
    stop_all(team, true)
  end
end


-- Ending.

-- A worker that could not begin at first would not on a second try.
local function is_hopeless(slot, how)
  return how == ("exit %d"):format(UNABLE) and slot.starts == 1
end

local function ended(team, slot, how)
  local words = process.last_words(slot.pipe)
  local code, message = (words or ""):match "^(%S*)\n(.*)"
  local exit = { pid = slot.pid, worker = slot.index, how = how,
                 message = message }
  slot.pid, slot.pipe = nil, nil
  team.counts.exits[how] = (team.counts.exits[how] or 0) + 1
  if message then note_error(team, message) end
  if is_hopeless(slot, how) then
    team.hopeless = team.hopeless or { message = message, code = code }
    begin_to_stop(team)
  elseif how ~= "exit 0" and team.o.restart ~= false and not team.ends then
    slot.due = now() + pause_after(slot)
  end
  if team.o.on_exit then team.o.on_exit(exit) end
end

local function reap(team)
  for _, slot in ipairs(team) do
    local how, number
    if slot.pid then how, number = process.wait(slot.pid) end
    if how then ended(team, slot, ("%s %d"):format(how, number)) end
  end
end

local function is_over(team)
  for _, slot in ipairs(team) do
    if slot.pid or slot.due then return false end
  end
  return true
end

-- After an error in this process: no worker is left behind, none replaced.
local function abandon(team)
  team.o.on_exit, team.ends = nil, now()
  stop_all(team, true)
  while not is_over(team) do
    reap(team)
    process.nap(POLL)
  end
  process.unwatch()
end


-- The whole.

local function start_all(team)
  for i = 1, team.o.workers or WORKERS do
    team[i] = { index = i, starts = 0, deaths = 0 }
    local ok, message, code = start(team, team[i])
    if not ok then
      team.hopeless = { message = message, code = code }
      begin_to_stop(team)
      return
    end
  end
end

local function tick(team)
  if not team.o.on_tick then return end
  local alive = 0
  for _, slot in ipairs(team) do
    if slot.pid then alive = alive + 1 end
  end
  team.o.on_tick(alive)
end

local function attend(team)
  start_all(team)
  while not is_over(team) do
    reap(team)
    heed(team)
    revive(team)
    tick(team)
    process.nap(POLL)
  end
end

local function check_place(o)
  if rawget(_G, "ngx") then
    compat.misuse("respool.work_processes: not within nginx, whose workers "
      .. "are processes already")
  end
  options.need(FORM, o, "store", "script")
end

-- Works on the queue of a worker script in several processes until all have
-- ended, or SIGTERM or SIGINT stops them. The workers open the store for
-- themselves; those that are open in this process are not theirs. A wrong
-- script or option raises; a store that cannot be opened is nil, message, code.
---@param given respool.work_processes_options
---@return respool.work_processes_counts?, string?, string?
function M.run(given)
  local o = options.read(FORM, given, 1)
  check_place(o)
  options.read(work.form, o.work, 1)
  local team = {
    o = o, signals = process.signals(),
    counts = { restarts = 0, exits = {}, errors = {} },
  }
  process.watch()
  compat.guard(attend, team, function() abandon(team) end)
  process.unwatch()
  local hopeless = team.hopeless
  if not hopeless then return team.counts end
  if not hopeless.code or hopeless.code == "" then
    error(hopeless.message, 0) -- with its place
  end
  return nil, hopeless.message, hopeless.code
end

return M
