-- SPDX-License-Identifier: MIT
--
-- Consumers inside nginx. Each is a long-lived timer with two light threads:
-- one works on the queue, the other watches for the end of the worker process.
-- When that comes no more is taken, the handler may go on until the deadline,
-- then it is killed and what it held is released. A consumer ends its round
-- now and then, to be armed anew with fresh memory; a recurring timer looks
-- after those that could not be armed or were not run, as happens when nginx
-- has no connection left for a timer.

local core = require "respool.core"
local compat = require "respool.compat"
local options = require "respool.options"
local resty = require "resty.respool"
local script = require "respool.script"
local work = require "respool.work"

local lots = core.lot

core.home(debug.getinfo(1, "S").source)

local M = {}

---@class respool.worker_options
---@field store string|respool.store a path is opened as respool.shared does
---@field open respool.open_options? of a path
---@field script string? path of a job script
---@field queue string? with `handle`; a script names its own
---@field options table? of the queue
---@field handle respool.handler?
---@field concurrency integer? handlers at a time, of this process; 1
---@field lot integer? items that each takes at once; 10, if ordered 1
---@field deadline number? seconds that a handler may go on when nginx wants
--- the worker to end; 5

local FORM = {
  of = "worker.start",
  store = resty.store_kind,
  open = options.table,
  script = options.string,
  queue = options.name,
  options = options.table,
  handle = options.callable,
  concurrency = options.whole(1, 1000),
  lot = work.form.lot,
  deadline = options.seconds,
}

local LOT, DEADLINE = 10, 5
local ROUND, IDLE = 10000, 10 -- a round is over after so many items, or seconds
local LOOK = 0.1 -- seconds between looks whether the worker is to end
local CARE = 1 -- seconds between looks whether all consumers are there
local LATE = 1 -- seconds after which one that was armed does not come

---@class respool.worker
---@field store respool.store
---@field consumers respool.consumer[]
---@field stopping boolean
local Worker = { __name = "respool.worker" }
Worker.__index = Worker

-- state: "armed" since `at`, "running", "gone" or "ended"
---@class respool.consumer
---@field worker respool.worker
---@field queue respool.queue its own handle, so that it is stopped alone
---@field state string
---@field turn integer rises when it is armed; a timer of another comes late


-- What is to be done.

local function check(o)
  if not o.store then
    compat.misuse "worker.start: option 'store' is missing"
  end
  local by_hand = o.queue and o.handle
  if not o.script and not by_hand then
    compat.misuse "worker.start: it needs a 'script', or 'queue' and 'handle'"
  end
  if o.script and (o.queue or o.handle or o.options) then
    compat.misuse "worker.start: a 'script' names queue, options and handle"
  end
end

local function job_of(o)
  if o.script then return script.load(o.script) end
  return { queue = o.queue, options = o.options, handle = o.handle }
end

local function is_ending(worker)
  return worker.stopping or ngx.worker.exiting()
end


-- A consumer's turn.

local arm

local function log(consumer, ...)
  ngx.log(ngx.ERR, "respool: queue ", consumer.queue.name, ": ", ...)
end

-- Runs the handler loop for a round. What the work could not do is told by
-- the store's hooks.
local function serve(consumer)
  local worker = consumer.worker
  local ok, counts = pcall(consumer.queue.work, consumer.queue, worker.handle,
                           { lot = worker.lot, max = ROUND, wait = IDLE })
  if not ok then log(consumer, tostring(counts)) end
  if not ok or not counts then ngx.sleep(1) end -- and then it tries again
end

-- Returns when the worker has been ending for as long as its deadline.
local function watch(consumer)
  local worker = consumer.worker
  while not is_ending(worker) do ngx.sleep(LOOK) end
  consumer.queue:stop()
  local ends = ngx.now() + worker.deadline
  while ngx.now() < ends do
    ngx.sleep(math.max(math.min(LOOK, ends - ngx.now()), 0.001))
    ngx.update_time()
  end
end

-- The lots that a killed handler held: what it marked is settled, the rest
-- released.
local function release(consumer)
  for lot in pairs(consumer.worker.store.lots) do
    if lots.beside(lot).queue == consumer.queue then
      local ok, message = lot:close()
      if not ok then log(consumer, message) end
    end
  end
end

local function kill(thread)
  if coroutine.status(thread) ~= "dead" then ngx.thread.kill(thread) end
end

local function take_turn(consumer)
  local server = ngx.thread.spawn(serve, consumer)
  local watcher = ngx.thread.spawn(watch, consumer)
  ngx.thread.wait(server, watcher)
  kill(watcher)
  if coroutine.status(server) == "dead" then return end
  log(consumer, "a handler was still running at the deadline")
  kill(server)
  release(consumer)
end

-- What the timer calls. Premature: nginx wants it to end, or has lost its
-- timers for another reason and is asked again.
local function run(premature, consumer, turn)
  if turn ~= consumer.turn then return end
  if not premature and not is_ending(consumer.worker) then
    consumer.state = "running"
    take_turn(consumer)
  end
  if is_ending(consumer.worker) or consumer.queue.handle:closed() then
    consumer.state = "ended"
  else
    arm(consumer)
  end
end

function arm(consumer)
  consumer.turn = consumer.turn + 1
  consumer.at = ngx.now()
  local ok, message = ngx.timer.at(0, run, consumer, consumer.turn)
  consumer.state = ok and "armed" or "gone"
  if not ok and message ~= consumer.told then log(consumer, message) end
  consumer.told = message
end

-- Arms consumers anew that are gone, or were armed and have not come.
local function look_after(premature, worker)
  if premature or is_ending(worker) then return end
  for _, consumer in ipairs(worker.consumers) do
    local late = consumer.state == "armed" and ngx.now() - consumer.at > LATE
    if late or consumer.state == "gone" then arm(consumer) end
  end
end


-- Starting and stopping.

local function new_consumer(worker, job)
  local queue, message, code = script.open(worker.store, job)
  if not queue then return nil, message, code end
  return { worker = worker, queue = queue, turn = 0 }
end

local function default_lot(queue)
  local config = queue:config()
  return config and config.ordered and 1 or LOT
end

-- Only one of nginx's workers replays in the background.
local function replay(worker, job)
  if job.replay and job.replay.interval and ngx.worker.id() == 0 then
    worker.consumers[1].queue.dead:replay_every(job.replay)
  end
end

-- Starts consumers on a queue, in this worker process; for
-- init_worker_by_lua. They end with the process, or by stop().
---@param given respool.worker_options
---@return respool.worker?, string?, string?
function M.start(given)
  local o = options.read(FORM, given, 1)
  check(o)
  local job = job_of(o)
  local store, message, code = resty.store_of(o)
  if not store then return nil, message, code end
  local worker = setmetatable({
    store = store, consumers = {}, stopping = false, handle = job.handle,
    deadline = o.deadline or DEADLINE,
  }, Worker)
  for i = 1, o.concurrency or 1 do
    worker.consumers[i], message, code = new_consumer(worker, job)
    if not worker.consumers[i] then return nil, message, code end
  end
  worker.lot = o.lot or default_lot(worker.consumers[1].queue)
  replay(worker, job)
  local ok
  ok, message = ngx.timer.every(CARE, look_after, worker)
  if not ok then return nil, "no timer: " .. message, "BUSY" end
  for _, consumer in ipairs(worker.consumers) do arm(consumer) end
  return worker
end

-- Asks the consumers to end: no more is taken, handlers may go on until the
-- deadline.
function Worker:stop()
  self.stopping = true
end

-- How many consumers have not ended.
---@return integer
function Worker:running()
  local n = 0
  for _, consumer in ipairs(self.consumers) do
    if consumer.state ~= "ended" then n = n + 1 end
  end
  return n
end

return M
