-- SPDX-License-Identifier: MIT
--
-- Workers: each that works on a queue has a row in the store, which says who it
-- is, and by which others ask it to stop. It looks at the rows now and then:
-- whether it is to stop, and whether the process of another has died, whose
-- leases are ended then instead of running out.
--
-- A store handle looks for all its workers, no more than once a second, however
-- many they are, and where there are many rows more rarely: others look at
-- other times. A failure with a row never stops the work.

local core = require "respool.core"
local hooks = require "respool.observe.hooks"
local rows_of = require "respool.observe.workers"
local runner = require "respool.support.runner"
local timing = require "respool.support.timing"

local time = timing.time

local M = {}

local LOOK = 1  -- seconds between looks, and
local EACH = 50 -- one second more for so many rows
local BEAT = 60 -- seconds between notes that a worker is there
local SEEN = 8  -- rows whose processes are looked for at once, at most
local ALL = 64  -- the same of all workers together: each has a part of it

-- `number`: of its row; nil: it has none yet. `users`: loops that take by it.
---@class respool.working
---@field store respool.store
---@field name string
---@field queue string
---@field number integer?
---@field users integer
---@field stopping boolean
---@field seen number
---@field leave fun()? ends its run in this process
---@field starting boolean?

local function report(store, message, code)
  if code == "CLOSED" then return end
  hooks.report(store, "worker", message, code)
end

-- Gives the worker a row, unless it has one.
local function start(worker)
  if worker.number or worker.starting then return end
  worker.starting = true
  local pid, _, host = core.process.self()
  local process, leave = runner.enter(worker)
  local store = worker.store
  local number, message, code = store.handle:worker_start(
    worker.name, worker.queue, host, process, pid)
  worker.starting, store.workers_look = nil, nil
  worker.seen = time(store)
  if not number then
    leave()
    return report(store, message, code)
  end
  worker.number, worker.leave = number, leave
end

-- Removes the row of a worker that takes no more.
---@param worker respool.working
function M.finish(worker)
  if not worker.number then return end
  local store, number = worker.store, worker.number
  worker.leave()
  worker.number = nil
  if store.handle:closed() then return end
  local ok, message, code = store.handle:worker_end(number)
  if not ok and code ~= "NOT_FOUND" then report(store, message, code) end
end

-- A worker that takes by the handle of a queue; it has no row yet.
local function new(queue, name)
  return {
    store = queue.store, name = name or queue.name, queue = queue.name,
    users = 0, stopping = false, seen = 0,
  }
end

-- One worker for several handles of a queue, until M.finish() ends it.
---@param consumers { queue: respool.queue }[]
---@param name string?
---@return respool.working
function M.share(consumers, name)
  local worker = new(consumers[1].queue, name)
  worker.users = 1
  for _, consumer in ipairs(consumers) do consumer.queue.worker = worker end
  return worker
end

-- Begins to work: by the worker that the handle has, or by a new one.
---@param queue respool.queue
---@param name string?
function M.enter(queue, name)
  local worker = queue.worker or new(queue, name)
  queue.worker = worker
  worker.users = worker.users + 1
  start(worker)
end

-- Comes to the end of it.
---@param queue respool.queue
function M.leave(queue)
  local worker = queue.worker
  worker.users = worker.users - 1
  if worker.users > 0 then return end
  queue.worker = nil
  M.finish(worker)
end

-- Ends the leases of a worker whose process was seen to have died, and removes
-- its row.
local function bury(store, row, seen)
  local items, message, code = store.handle:worker_end(row.number, seen)
  if code == "NOT_FOUND" then return end -- another was first
  if not items then return report(store, message, code) end
  hooks.log(store, "warn", "a worker has died", {
    queue = row.queue, worker = row.name, pid = row.pid, items = items,
  })
end

-- Looks for the processes of some of the rows, from where the last look ended:
-- each process begins somewhere else. Where one is found dead the others are
-- looked for, too.
local function look_for_dead(store, rows, most)
  local at, now = store.workers_at or core.process.self(), store.handle:now()
  local n, found = math.min(most, #rows), false
  for i = 1, n do
    local row = rows[(at + i - 1) % #rows + 1]
    local gone, seen = false, false
    if not row.buried then gone, seen = rows_of.is_gone(row, now) end
    if gone then
      row.buried, found = true, true
      bury(store, row, seen)
    end
  end
  store.workers_at = #rows > 0 and (at + n) % #rows or nil
  if found and n < #rows then look_for_dead(store, rows, #rows) end
end

-- Seconds until the next look of so many rows.
local function pause_after(n)
  return LOOK + math.floor(n / EACH)
end

-- How many each of so many workers looks for: all of them in a second or so.
local function share(n)
  return math.max(pause_after(n),
                  math.min(SEEN, math.floor(ALL / math.max(1, n))))
end

-- Ends what the dead have left, at once.
---@param store respool.store
---@return true?, string?, string?
function M.bury_dead(store)
  local rows, message, code = rows_of.stored(store)
  if not rows then return nil, message, code end
  look_for_dead(store, rows, #rows)
  return true
end

-- Rows by number, as they were at the last look.
local function look(store)
  local now = time(store)
  local last = store.workers_look
  if last and now < last.ends and now >= last.at then return last.rows end
  local rows, message, code = rows_of.stored(store)
  if not rows then
    report(store, message, code)
    rows = {}
  end
  local by_number = {}
  for _, row in ipairs(rows) do by_number[row.number] = row end
  store.workers_look = {
    at = now, ends = now + pause_after(#rows), rows = by_number,
  }
  look_for_dead(store, rows, share(#rows))
  return by_number
end

local function beat(worker)
  local store, now = worker.store, time(worker.store)
  if now - worker.seen < BEAT then return end
  worker.seen = now
  local ok, message, code = store.handle:worker_seen(worker.number)
  if ok then return end
  if code ~= "NOT_FOUND" then return report(store, message, code) end
  worker.leave() -- it was taken for gone
  worker.number = nil
  start(worker)
end

-- Looks whether the worker of this handle is asked to stop, and after others.
---@param queue respool.queue
function M.tick(queue)
  local worker = queue.worker
  if not worker or worker.store.handle:closed() then return end
  local row = look(worker.store)[worker.number or 0]
  if row and row.stopping then worker.stopping = true end
  if worker.number then beat(worker) end
end

return M
