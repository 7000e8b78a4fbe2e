-- SPDX-License-Identifier: MIT
--
-- Stores: opening, closing, and what concerns more than one queue.

local core = require "respool.core"
local location = require "respool.support.location"
local maintenance = require "respool.maintenance"
local closing = require "respool.observe.closing"
local codec = require "respool.support.codec"
local dead = require "respool.dead"
local queue_stats = require "respool.observe.stats"
local health = require "respool.observe.health"
local hooks = require "respool.observe.hooks"
local logger = require "respool.observe.logger"
local import_log = require "respool.transfer.import_log"
local metrics = require "respool.observe.metrics"
local options = require "respool.support.options"
local queue = require "respool.queue"
local progress_of = require "respool.replay.progress"
local schedules = require "respool.produce.schedules"
local tracing = require "respool.observe.tracing"
local trend = require "respool.observe.trend"
local workers = require "respool.observe.workers"
local transaction = require "respool.transaction"
local tickets = require "respool.support.ticket"

local one = options.one

local M = {}

-- A log of the user's: it is called with every message; none holds a payload.
---@alias respool.log fun(level: respool.level, message: string, fields: table)

---@class respool.store
---@field path string
---@field private manual boolean whether its clock is moved by hand
---@field read_only boolean
---@field private max_item_bytes integer
---@field private handle userdata
---@field private batches table<respool.batch, true> open ones, weak
---@field private watched boolean? one of its queues has an on_dead hook
---@field private queues_open table<respool.queue, true> weak
---@field private dropped_at number? when the log was told of removed dead
--- letters last
---@field private cancels integer items that queues of it have cancelled
---@field private news integer rises with what work in hand is to see before its
--- next item: a stop, a cancel, a mark that bears on the flow
---@field private sample_at number? when the next sample of figures is due
---@field private buffered boolean? whether a queue of it was opened with a
--- buffer
---@field private failures integer? flushes that on_error was called for
---@field private transactions table<thread, respool.transaction> running ones,
--- weak
---@field ticker table? what work ticks now and then; by background
---@field private background table<respool.background, true> replays
---@field private serving table<any, string[]> queues that are worked on, by
--- coroutine, weak
---@field private hooks table<any, integer> hooks that are running by coroutine,
--- weak
---@field private past table<string, table[]> what health() has seen of queues
---@field private workers_look table? the rows of workers as they were seen last
---@field private workers_at integer? row from which dead ones are looked for
---@field private closing table? while it is closing, and after
---@field private tracer respool.tracer?
---@field private traces table<any, respool.trace> handlers that run, by task;
--- weak
---@field on_error fun(err: respool.internal_error)?
---@field log fun(level: respool.level, message: string, fields: table)?
local Store = { __name = "respool.store" }
Store.__index = Store

local function path_of(value)
  if type(value) == "string" and value ~= ""
     and not value:find("\0", 1, true) then
    return value
  end
  return nil, "a path"
end

---@class respool.open_options
---@field sync "commit"|"relaxed"|"none"? "commit": what a call has returned is
--- on disk; "relaxed": a power cut may undo the last second; "none" for
--- ":memory:"
---@field create boolean? true; false: NOT_FOUND when there is no store
---@field read_only boolean? false; true: only reads; calls that would change
--- something raise
---@field clock "manual"? time stands still until advance() moves it
---@field max_readers integer? 256; processes and threads that read at once
---@field max_bytes integer|string? "16GiB"; pushes beyond it are FULL
---@field max_item_bytes integer|string? "64MiB"; up to "1GiB"
---@field seed integer? of the jitter; a random one
---@field timeout respool.seconds? how long a call waits for other processes
--- that write, open or compact the store, then LOCKED; nil: for ever
---@field journal boolean? true; false: each push is a commit of LMDB, even
--- where the journal would do
---@field on_error fun(err: respool.internal_error)? called for failures in
--- the background, such as that of a flush
---@field log respool.log|false? warnings and errors are a line each on stderr,
--- a few a second at most; a function gets every message; false: silence. The
--- process that a call waits for is named on stderr after 3 s, as no Lua runs
--- meanwhile, and in the log when the wait is over; in nginx in the error log
---@field tracer respool.tracer? called at pushes, takes, handlers and settles:
--- respool.otlp makes one
local FORM = {
  of = "respool.open",
  sync = options.choice { commit = 0, relaxed = 1, none = 2 },
  create = options.boolean,
  read_only = options.boolean,
  clock = options.choice { manual = true },
  max_readers = options.whole(1, 2^31 - 1),
  max_bytes = options.size,
  max_item_bytes = options.size,
  seed = options.whole(0, 2^53 - 1),
  timeout = options.seconds_or_huge,
  journal = options.boolean,
  on_error = options.callable,
  log = function(value)
    if value == false or type(value) == "function" then return value end
    return nil, "a function, or false"
  end,
  tracer = tracing.kind,
}

-- The log that a store is given: the default one, the user's, or none.
local function log_of(o)
  if o.log == nil then return logger.new() end
  return o.log or nil
end

local MAX_ITEM_BYTES = 64 * 2^20 -- the core's default

-- The core draws a seed of its own for 0.
local function core_options(o)
  return {
    sync = o.sync, no_create = o.create == false, manual_clock = o.clock,
    read_only = o.read_only, no_journal = o.journal == false,
    max_readers = o.max_readers, max_bytes = o.max_bytes,
    max_item_bytes = o.max_item_bytes, seed = o.seed and o.seed + 1,
    timeout = o.timeout ~= math.huge and o.timeout or nil,
  }
end

local function weak()
  return setmetatable({}, { __mode = "k" })
end

-- Opens the store in a directory, which is made when missing; ":memory:"
-- keeps nothing.
---@param path string
---@param given respool.open_options?
---@return respool.store?, string?, string?
---@nodiscard
function M.open(path, given)
  options.argument(1, "respool.open", path, path_of)
  local o = options.read(FORM, given, 2)
  if o.log ~= false then core.tell_waits() end
  local handle, message, code = core.open(path, core_options(o))
  if not handle then return nil, message, code end
  return setmetatable({
    path = path, manual = o.clock == true, handle = handle,
    read_only = o.read_only == true,
    max_item_bytes = o.max_item_bytes or MAX_ITEM_BYTES,
    serving = weak(), hooks = weak(), past = {}, refused = {},
    batches = weak(), queues_open = weak(), transactions = weak(),
    background = {}, tick_payloads = {}, on_error = o.on_error, log = log_of(o),
    tracer = o.tracer, traces = o.tracer and weak(), cancels = 0, news = 0,
  }, Store)
end

-- Opens a queue, which is made when missing. Options of the policy are stored;
-- an option that is not given stays as it is stored. With `create = false`, and
-- in a store that was opened read-only, a missing queue is NOT_FOUND.
---@param name string
---@param given respool.queue_options?
---@return respool.queue?, string?, string?
---@nodiscard
function Store:queue(name, given)
  local q, message, code = queue.open(self, name, given)
  if not q then return nil, message, code end
  self.queues_open[q] = true
  health.begin(self, name, q.handle)
  return q
end

-- The names of the queues, except those that begin with a dot, which respool's
-- own tools use.
---@return string[]?, string?, string?
---@nodiscard
function Store:queues()
  return queue_stats.names(self)
end

-- The names of the DLQs that hold or held dead letters.
---@return string[]?, string?, string?
---@nodiscard
function Store:dead_letter_queues()
  return self.handle:dead_letter_queues()
end

-- Removes a queue with everything in it; its DLQ stays.
---@param name string
---@return true?, string?, string?
---@nodiscard
function Store:drop_queue(name)
  options.argument(1, "store:drop_queue", name, options.name)
  return self.handle:drop(name)
end

-- Calls fn(tx) and commits everything that it asked of tx, in one commit;
-- nothing if it raises, or returns nil and an error, or false. Returns what fn
-- returns.
---@param fn fun(tx: respool.transaction): ...
---@return any ...
function Store:transaction(fn)
  return transaction.run(self, fn)
end

-- A transaction to be ended by hand, with commit() or rollback().
---@return respool.transaction?, string?, string?
---@nodiscard
function Store:begin()
  return transaction.begin(self)
end

local DLQ = { of = "store:dead", codec = codec.kind }

-- The dead letters of a DLQ.
---@param dlq string
---@param given { codec: any }?
---@return respool.dead
function Store:dead(dlq, given)
  options.argument(1, "store:dead", dlq, options.name)
  local o = options.read(DLQ, given, 2)
  return dead.new(self, dlq, o.codec or codec.default)
end

-- The named replays.
---@return respool.named_replay[]?, string?, string?
---@nodiscard
function Store:replays()
  local names, message, code = self.handle:replay_names()
  if not names then return nil, message, code end
  local list = {}
  for _, name in ipairs(names) do
    list[#list + 1] = progress_of.stored(self, name)
  end
  return list
end

-- A named replay: its counts, its state "running", "interrupted", "stopped" or
-- "finished", and the process that runs it.
---@param name string
---@return respool.named_replay?, string?, string?
---@nodiscard
function Store:replay(name)
  options.argument(1, "store:replay", name, options.name)
  return progress_of.stored(self, name)
end

-- Stops a named replay after the page in hand, in whichever process it runs; a
-- later replay of that name goes on. NOT_FOUND when it is not running.
---@param name string
---@return true?, string?, string?
---@nodiscard
function Store:cancel_replay(name)
  options.argument(1, "store:cancel_replay", name, options.name)
  return progress_of.cancel(self, name)
end

-- Forgets a named replay, which stops it; dead letters stay where they are.
---@param name string
---@return true?, string?, string?
---@nodiscard
function Store:remove_replay(name)
  options.argument(1, "store:remove_replay", name, options.name)
  return self.handle:replay_remove(name)
end

-- Makes a schedule, or changes it: an item is pushed at each tick of `cron`, by
-- any process that works on a queue of the store, waits in a take, or maintains
-- the store; each tick once over all processes. The item's headers are {
-- schedule = name, at = tick }. A schedule that is stored like this already is
-- not written again.
---@param name string
---@param given respool.schedule_options
---@return respool.schedule?, string?, string?
function Store:schedule(name, given)
  return schedules.save(self, name, given)
end

-- The schedules, in the order of their names.
---@return respool.schedule[]?, string?, string?
---@nodiscard
function Store:schedules()
  return schedules.list(self)
end

-- Pauses a schedule: it has no ticks until it is resumed, and they are not made
-- up.
---@param name string
---@return true?, string?, string?
---@nodiscard
function Store:pause_schedule(name)
  options.argument(1, "store:pause_schedule", name, options.name)
  return schedules.pause(self, name, true)
end

-- Lets a paused schedule go on, from its next tick.
---@param name string
---@return true?, string?, string?
---@nodiscard
function Store:resume_schedule(name)
  options.argument(1, "store:resume_schedule", name, options.name)
  return schedules.pause(self, name, false)
end

-- Removes a schedule; the items it has pushed stay. NOT_FOUND when there is
-- none of this name.
---@param name string
---@return true?, string?, string?
---@nodiscard
function Store:remove_schedule(name)
  options.argument(1, "store:remove_schedule", name, options.name)
  return schedules.remove(self, name)
end

-- Pushes the item of a schedule now; its next tick stays.
---@param name string
---@return integer? id, string?, string?
---@nodiscard
function Store:run_schedule(name)
  options.argument(1, "store:run_schedule", name, options.name)
  return one(schedules.run(self, name))
end

-- The workers, in the order of their numbers, with the items that they hold.
---@return respool.worker_row[]?, string?, string?
---@nodiscard
function Store:workers()
  return workers.list(self)
end

-- The figures of queues over time, oldest first: each entry is the change of a
-- queue between two samples. While nothing changes, or no process works on the
-- store or maintains it, no sample is taken, and the next one reaches back
-- further.
---@param given respool.trend_options?
---@return respool.trend[]?, string?, string?
---@nodiscard
function Store:trend(given)
  return trend.list(self, given)
end

-- Asks a worker to stop after the item or batch in hand: it looks within about
-- a second. NOT_FOUND when there is none of this number.
---@param number integer
---@return true?, string?, string?
---@nodiscard
function Store:stop_worker(number)
  options.argument(1, "store:stop_worker", number, options.id)
  return self.handle:worker_stop(number)
end

-- Forgets what was imported into this store: the next import of the same
-- records pushes them again.
---@return true?, string?, string?
---@nodiscard
function Store:forget_imports()
  return import_log.forget(self)
end

local FLUSH = { of = "store:flush", timeout = options.seconds }

-- A durability barrier: all earlier commits, and all pushes to buffers of its
-- queues, are on disk. It tries all buffers, even those of queues whose handle
-- was collected, and returns the first error. With `timeout` it waits no longer
-- than so many seconds; after TIMEOUT the flush goes on.
---@param given { timeout: respool.seconds? }?
---@return true?, string?, string?
---@nodiscard
function Store:flush(given)
  local timeout = options.read(FLUSH, given, 1).timeout
  local ok, message, code
  if timeout then
    ok, message, code = tickets.flush(timeout,
      core.start.store.flush(self.handle, self.buffered))
  else
    ok, message, code = self.handle:flush(self.buffered)
  end
  hooks.drain(self)
  return one(ok, message, code)
end

-- Figures of the store: bytes of its file, of them used, and `max_bytes`;
-- readers; whether the disk is full; durations of this process's commits.
---@return table?, string?, string?
---@nodiscard
function Store:stats()
  local stats, message, code = self.handle:stat()
  hooks.drain(self)
  return one(stats, message, code)
end

local METRICS = {
  of = "store:metrics",
  format = options.choice {
    prometheus = "prometheus", openmetrics = "openmetrics",
  },
}

-- Everything counted, as text for a scraper: Prometheus 0.0.4, to be served
-- as "text/plain; version=0.0.4", or OpenMetrics.
---@param given { format: "prometheus"|"openmetrics"? }?
---@return string?, string?, string?
---@nodiscard
function Store:metrics(given)
  local o = options.read(METRICS, given, 1)
  local pieces, message, code = metrics.pieces(self, o.format or "prometheus")
  hooks.drain(self)
  return one(pieces and table.concat(pieces), message, code)
end

-- The health of the store: { status =, components = { storage, readers, queues,
-- buffers } }, after a durable write and a read of a record of its own; a store
-- that was opened read-only is only read. The error rate of a queue counts from
-- earlier calls on, as far as the window looks back.
---@param given respool.health_options?
---@return respool.health
function Store:health(given)
  local kind = health.check(self, given)
  hooks.drain(self)
  return kind
end

-- The time by this store's clock, in seconds since 1970.
---@return number
function Store:now()
  return self.handle:now()
end

local function is_step(value)
  if type(value) == "number" and value > -2^43 and value < 2^43 then
    return value
  end
  return nil, "a number of seconds"
end

-- Moves a manual clock; below zero, back.
---@param seconds number
---@return true?, string?, string?
---@nodiscard
function Store:advance(seconds)
  options.argument(1, "store:advance", seconds, is_step)
  return self.handle:advance(seconds)
end

-- Expires items, applies retention to dead letters and history, frees the slots
-- of dead processes, runs background replays that are due: until all is done,
-- or for `seconds`. Returns counts of what it did.
---@param given { seconds: number? }?
---@return respool.maintenance?, string?, string?
---@nodiscard
function Store:maintain(given)
  local done, message, code = maintenance.maintain(self, given)
  hooks.drain(self)
  return one(done, message, code)
end

-- Verifies invariants and checksums; returns what is wrong, a line each.
---@return string[]?, string?, string?
---@nodiscard
function Store:check()
  return self.handle:check()
end

-- Closes the store with its queues and batches: pushes are refused, work on it
-- stops, what is marked is settled, other leases are released, buffers are
-- flushed. The store is closed whatever comes of it; when something could not
-- be done, the fourth value counts what. A second close does nothing and
-- returns true, also while the first is under way, whatever the deadline of
-- the second; but once the deadline of the first is over, or if that raised an
-- error, it closes the store.
--
-- Without a `deadline` it is closed at once: a handler that is running finds
-- its item released, and work in which a hook closes the store returns its
-- counts as if stopped. Given seconds, handlers may go on so long, and push:
-- called by a handler, close() returns true and its work closes the store
-- when it ends; called by others, handlers of other coroutines are waited for
-- by calling pause(seconds), which must let them run. Buffers that cannot be
-- flushed are tried again until the deadline.
---@param deadline number? seconds
---@param pause fun(seconds: number)?
---@return true?, string?, string?, respool.close_left?
function Store:close(deadline, pause)
  return closing.close(self, deadline, pause)
end

-- Leaving the scope closes the store, now; what could not be settled is
-- raised, unless another error is on its way or this is another process.
function Store:__close(err)
  closing.give_up(self)
  local ok, message, code = self:close()
  if not ok and err == nil and code ~= "FORKED" then
    error("respool: " .. message, 0)
  end
end

options.guard_methods(Store, "store")

function Store:__tostring()
  local state = self.handle:closed() and " (closed)" or ""
  return ("respool store %s%s"):format(location.shown(self.path), state)
end

return M
