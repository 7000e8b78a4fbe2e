-- SPDX-License-Identifier: MIT
--
-- Consumers inside nginx: as many light threads as handlers are to run at a
-- time, in a long-lived timer of each worker process; see
-- resty/respool/round.lua. A recurring timer looks after it.

local core = require "respool.core"
local compat = require "respool.support.compat"
local options = require "respool.support.options"
local resty = require "resty.respool"
local round = require "resty.respool.round"
local script = require "respool.worker_script"
local work = require "respool.consume.work"
local workers = require "respool.consume.workers"

core.home(debug.getinfo(1, "S").source)

local M = {}

---@class respool.worker_options : respool.store_of
---@field script string? path of a worker script
---@field queue string? with `handle`; a script names its own
---@field options respool.queue_options? of the queue
---@field handle respool.handler? with `queue`
---@field concurrency integer? handlers at a time, of this process; 1
---@field name string? for store:workers(), where the consumers of a process are
--- one worker; the queue's
---@field batch integer? items that each takes at once. When not given, as many
--- as take about 5 ms; in an ordered queue 1
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
  name = options.name,
  concurrency = options.whole(1, 1000),
  batch = work.form.batch,
  deadline = options.seconds,
}

local DEADLINE = 5
local AIM = 5000 -- microseconds that a batch is to take: nginx waits for it
local CHECK = 1 -- seconds between looks whether all is well

-- The consumers that start() has begun.
---@class respool.worker
---@field private store respool.store
---@field private handle respool.handler
---@field private batch integer?
---@field private deadline number
---@field private consumers respool.consumer[]
---@field private stopping boolean
---@field private row respool.working in the store
---@field private round respool.round
---@field private before respool.round? the round before, while
--- consumers are at work in it
---@field private ends number? the deadline, once it is ending
---@field private said string? the last message of a timer that was refused
local Worker = { __name = "respool.worker" }
Worker.__index = Worker


-- The options.

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

local function definition_of(o)
  if o.script then return script.load(o.script) end
  return { queue = o.queue, options = o.options, handle = o.handle }
end


-- Starting and stopping.

local function new_consumer(worker, definition)
  local queue, message, code = script.open(worker.store, definition)
  if not queue then return nil, message, code end
  queue.batch_aim = AIM
  return { queue = queue }
end

-- Only one of nginx's workers replays in the background.
local function replay(worker, definition)
  local o = definition.replay
  if o and o.interval and ngx.worker.id() == 0 then
    worker.consumers[1].queue.dead:replay_every(o)
  end
end

local function look_after(premature, worker)
  if not premature then round.look_after(worker) end
end

-- Starts consumers on a queue, in this worker process; for
-- init_worker_by_lua. They end with the process, or by stop().
---@param given respool.worker_options
---@return respool.worker?, string?, string?
function M.start(given)
  local o = options.read(FORM, given, 1)
  check(o)
  local definition = definition_of(o)
  local store, message, code = resty.store_of(o)
  if not store then return nil, message, code end
  local worker = setmetatable({
    store = store, consumers = {}, stopping = false, handle = definition.handle,
    deadline = o.deadline or DEADLINE,
  }, Worker)
  for i = 1, o.concurrency or 1 do
    worker.consumers[i], message, code = new_consumer(worker, definition)
    if not worker.consumers[i] then return nil, message, code end
  end
  worker.batch, worker.row = o.batch, workers.share(worker.consumers, o.name)
  replay(worker, definition)
  local ok
  ok, message = ngx.timer.every(CHECK, look_after, worker)
  if not ok then return nil, "no timer: " .. message, "BUSY" end
  round.begin(worker)
  return worker
end

-- Asks the consumers to end: they take no more items, and handlers may go on
-- until the deadline.
function Worker:stop()
  self.stopping = true
end

local function is_running(worker, consumer)
  if round.is_ending(worker) then return consumer.round ~= nil end
  return not consumer.queue.handle:closed()
end

-- The number of consumers that have not ended.
---@return integer
function Worker:running()
  local n = 0
  for _, consumer in ipairs(self.consumers) do
    if is_running(self, consumer) then n = n + 1 end
  end
  return n
end

return M
