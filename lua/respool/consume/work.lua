-- SPDX-License-Identifier: MIT
--
-- The work on a queue: take a batch, serve it (see serve.lua), settle it, take
-- the next in the same commit. That commit is not flushed before the handler
-- goes on; the loop flushes when it idles and when it ends. When the handler or
-- a hook closes the store, the loop ends as if stopped, and closes it.
--
-- While a handler yields, another coroutine may close the store: the batch is
-- closed then, and its next use raises, which ends the loop.

local batch_of = require "respool.consume.batch"
local core = require "respool.core"
local closing = require "respool.observe.closing"
local compat = require "respool.support.compat"
local decide = require "respool.consume.decide"
local flow = require "respool.consume.flow"
local hooks = require "respool.observe.hooks"
local item = require "respool.consume.item"
local merge = require "respool.produce.merge"
local merge_batch = require "respool.consume.merge_batch"
local options = require "respool.support.options"
local schedules = require "respool.produce.schedules"
local serve = require "respool.consume.serve"
local take = require "respool.consume.take"
local timing = require "respool.support.timing"
local tracing = require "respool.observe.tracing"
local trend = require "respool.observe.trend"
local workers = require "respool.consume.workers"

local batches = core.batch
local closed, new_item, is_stopped = batches.closed, item.new, serve.is_stopped
local floor, huge = math.floor, math.huge
local max, min = math.max, math.min

local M = {}

---@class respool.work_options
---@field batch integer? items a take. When not given, as many as take about
--- 50 ms: it begins with one and grows; in an ordered queue always 1
---@field stop_when_empty boolean? stop when nothing is ready, leased by
--- anybody, or retrying; a hold is waited for, items scheduled for later are
--- not
---@field seconds respool.seconds? stop after so long
---@field timeout respool.seconds? stop when nothing came for so long
---@field limit integer? stop after so many items
---@field name string? of the worker, for store:workers(); the queue's
---@field on_error fun(err: any, item: respool.item)? sees every failure
---@field merge respool.merge|true|nil folds items of a batch with the same key
--- before the handler sees them; true: as the queue's producers do. Items of
--- which different handlers of a fan-out have accepted stay apart

---@class respool.work_counts
---@field items integer given to the handler or found undecodable
---@field done integer
---@field failed integer to be retried, dead or dropped
---@field released integer
---@field snoozed integer
---@field lost integer settled too late: the lease had run out
---@field batches integer

local FORM = {
  of = "queue:work",
  batch = options.whole(1, 2^31),
  stop_when_empty = options.boolean,
  seconds = options.seconds_or_huge,
  timeout = options.seconds_or_huge,
  limit = options.whole(1, huge),
  name = options.name,
  on_error = options.callable,
  merge = merge.work_kind,
}

M.form = FORM

local BATCHES_FORM =
  setmetatable({ of = "queue:work_batches" }, { __index = FORM })

-- A large batch makes a commit cheap for each item, a small one leaves items to
-- other workers: a batch is to take about AIM. Items that are to be merged must
-- be taken together, so that batches begin large there. In an ordered queue a
-- failure releases the rest of its batch, and a crash would deliver again what
-- came before, out of turn: one by one.
local AIM = 50000 -- microseconds
local GROWTH = 4  -- of a batch to the next, at most
local MOST, MERGE_BATCH, ORDERED_BATCH = 1000, 100, 1
local BYTES = 16 * 2^20 -- of payload a batch, where its size is ours to choose

local function new_counts()
  return {
    items = 0, done = 0, failed = 0, released = 0, snoozed = 0, lost = 0,
    batches = 0,
  }
end

local function new_loop(queue, handler, serve_with, o)
  local config, message, code = queue.handle:config()
  if not config then return nil, message, code end
  local loop = {
    queue = queue, handler = handler, serve = serve_with, o = o,
    stops = queue.stops, ordered = config.ordered == 1,
    keeps = config.keep_done > 0,
    parts_ordered = config.partition_ordered == 1,
    counts = new_counts(), unflushed = false, tracer = queue.store.tracer,
  }
  loop.strict = loop.ordered or loop.parts_ordered
  loop.plain = item.is_plain(queue) and not loop.tracer
  loop.row = flow.row(queue, config)
  loop.merge = merge_batch.of_work(queue, o.merge, loop.ordered)
  loop.size = o.batch or loop.ordered and ORDERED_BATCH
    or queue.batch_size or loop.merge and MERGE_BATCH or 1
  loop.adapts = not o.batch and not loop.ordered
  loop.read, loop.catch = item.reader(queue), serve.catcher(loop)
  loop.call, loop.item_type = serve.caller(loop.tracer),
    serve.item_type(handler)
  loop.start, loop.stop, loop.look = serve.clocks(queue.store)
  loop.ends = o.seconds and queue.store.handle:now() + o.seconds
  return loop
end

local function room(loop)
  return min(loop.size, (loop.o.limit or huge) - loop.counts.items)
end

local function is_over(loop)
  return is_stopped(loop) or room(loop) <= 0
end


-- The next batch is as many items as take about AIM, but no more than GROWTH
-- times as many as this one, of `n` items, which took so long.
local function adapt(loop, n, took)
  if not loop.adapts or n == 0 then return end
  local aim = loop.queue.batch_aim or AIM
  local fit = took > 0 and floor(n * aim / took) or MOST
  local most = n < loop.size and loop.size or n * GROWTH -- were there no more?
  loop.size = max(min(fit, most, MOST), 1)
  loop.queue.batch_size = loop.size
end

-- The options of the next take.
local function wanted(loop)
  return { limit = room(loop), bytes = loop.adapts and BYTES or nil }
end


-- From batch to batch.

local function flush(loop)
  if not loop.unflushed then return true end
  loop.unflushed = false
  return loop.queue.store.handle:flush()
end

local function count(loop, batch, code)
  local c = loop.counts
  local done, retry, release, snooze, dead, drop, held = batches.tally(batch)
  c.batches = c.batches + 1
  c.done = c.done + done
  c.failed = c.failed + retry + dead + drop
  c.released = c.released + release + held
  c.snoozed = c.snoozed + snooze
  if code == "LEASE_LOST" then
    c.lost = c.lost + batches.lost(batch)
    hooks.log(loop.queue.store, "warn", "leases were lost",
              { queue = loop.queue.name, items = batches.lost(batch) })
  end
end

-- Settles the batch, with a take of the next unless the work is over: as the
-- core answers. Items whose push is refused have failed.
local function settle(loop, batch)
  local o = not is_over(loop) and wanted(loop) or nil
  return batch_of.settle_items(batch, o, true, function(i, err)
    if closing.is_immediate(loop.queue.store) then return end
    decide.fail(loop.queue, new_item(batch, i), err, nil, loop.o.on_error)
    serve.is_cut_off(loop, batch, i)
  end)
end

-- Settles the batch and takes the next unless the work is over. LEASE_LOST
-- spoils a batch, not the work.
---@return respool.batch?, string?, string?
local function hand_over(loop, batch)
  if closed(batch) then return nil end
  batch_of.default_marks(batch)
  local ok, a, b, c = settle(loop, batch)
  loop.unflushed = true
  count(loop, batch, not ok and b)
  batch_of.shut(batch)
  flow.settled(loop.row)
  if not ok and b ~= "LEASE_LOST" then return nil, a, b end
  local more = ok and a or c
  return more and #more > 0 and more or nil
end

-- Whether the queue is empty, when that is to end the work.
local function is_drained(loop)
  if not loop.o.stop_when_empty then return false end
  return flow.is_drained(loop.row)
end

-- Fires the schedules that are due, runs a page of each background replay that
-- is, and looks after workers.
local function tick(loop)
  local store = loop.queue.store
  workers.tick(loop.queue)
  schedules.tick(store)
  trend.tick(store)
  if store.ticker then store.ticker.tick(store) end
  if store.tracer then tracing.tick(store, false) end
end

local function next_slice(loop, waited)
  local store = loop.queue.store
  local slice = min(timing.take_slice(store), (loop.o.timeout or huge) - waited)
  if loop.ends then slice = min(slice, loop.ends - store.handle:now()) end
  local ticker = store.ticker
  slice = min(flow.slice(loop.row, slice), schedules.wait(store))
  return max(min(slice, ticker and ticker.wait(store) or huge), 0)
end

-- Nothing came: true to go on waiting.
local function idle(loop, waited)
  local ok, message, code = flush(loop)
  if not ok then return nil, message, code end
  tick(loop)
  if waited >= (loop.o.timeout or huge) then return false end
  local drained
  drained, message, code = is_drained(loop)
  return drained == false, message, code
end

-- Waits for a batch; nil when the work is over.
---@return respool.batch?, string?, string?
local function await(loop)
  local waited, slice, queue = 0, 0, loop.queue
  while not is_over(loop) do
    local batch, message, code = take.once(queue, wanted(loop), slice)
    if not batch then return nil, message, code end
    if #batch > 0 then return batch end
    waited = waited + slice
    local go_on
    go_on, message, code = idle(loop, waited)
    if not go_on then return nil, message, code end
    slice = next_slice(loop, waited)
  end
end

local function finish(loop, message, code)
  if message then hooks.report(loop.queue.store, "work", message, code) end
  local ok, flush_message, flush_code = flush(loop)
  if message then return nil, message, code, loop.counts end
  if not ok then return nil, flush_message, flush_code, loop.counts end
  return loop.counts
end

local function serve_and_adapt(loop, batch)
  local n, began = #batch, loop.start()
  loop.serve(loop, batch)
  adapt(loop, n, loop.start() - began)
end

local function cycle(loop)
  local batch, message, code = await(loop)
  while batch do
    loop.batch = batch
    local ok, m, c = batches.keep(batch)
    if not ok then
      batch:close()
      return finish(loop, m, c)
    end
    serve_and_adapt(loop, batch)
    tick(loop)
    hooks.drain(loop.queue.store)
    batch, message, code = hand_over(loop, batch)
    if not batch and not message then batch, message, code = await(loop) end
  end
  return finish(loop, message, code)
end

-- An error that belongs to no item, such as Ctrl-C: what was handled is
-- settled, the rest released.
local function abandon(loop)
  if loop.batch then loop.batch:close() end
  if not loop.queue.handle:closed() then flush(loop) end
end

-- Runs the cycle; one that another coroutine has cut off by closing the store
-- ends as if stopped.
local function run_cycle(loop)
  local results = { pcall(cycle, loop) }
  if results[1] then return results end
  tracing.leave(loop.queue.store, loop.handling, nil, false)
  if loop.queue.handle:closed() and not compat.is_interrupt(results[2]) then
    return { true, loop.counts }
  end
  abandon(loop)
  return results
end

local function run(queue, handler, serve_with, o)
  local loop, message, code = new_loop(queue, handler, serve_with, o)
  if not loop then return nil, message, code end
  local ok
  ok, message, code = closing.enter(queue.store, queue.name)
  if not ok then return nil, message, code end
  workers.enter(queue, o.name)
  local results = run_cycle(loop)
  workers.leave(queue)
  ok, message, code = closing.leave(queue.store)
  if not results[1] then error(results[2], 0) end
  if not ok then return nil, message, code, loop.counts end
  if results[2] then return results[2] end
  return nil, compat.unpack(results, 3, 5)
end

-- Calls handler(payload, item) for item after item.
---@param queue respool.queue
---@param handler fun(payload: any, item: respool.item): ...
---@param given respool.work_options?
---@return respool.work_counts?, string?, string?, respool.work_counts?
function M.work(queue, handler, given)
  options.argument(1, "queue:work", handler, options.callable)
  local o = options.read(FORM, given, 2)
  return run(queue, handler, o.merge and serve.groups or serve.items, o)
end

-- Calls handler(batch) for batch after batch. Where the queue keeps results
-- (`keep_done`), the handler may return a list: the result of batch[i] at i.
---@param queue respool.queue
---@param handler fun(batch: respool.batch): ...
---@param given respool.work_options?
---@return respool.work_counts?, string?, string?, respool.work_counts?
function M.work_batches(queue, handler, given)
  options.argument(1, "queue:work_batches", handler, options.callable)
  return run(queue, handler, serve.batch, options.read(BATCHES_FORM, given, 2))
end

return M
