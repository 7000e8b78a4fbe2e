-- SPDX-License-Identifier: MIT
--
-- The handler loop: take a batch, run the handler, settle, take the next in
-- the same commit. That commit is not flushed before the handler goes on;
-- the loop flushes when it idles and when it ends. When the handler or a hook
-- closes the store, the loop ends as if stopped, and closes it.
--
-- While a handler yields, another coroutine may close the store: the batch is
-- closed then, and its next use raises, which ends the loop.

local batch_of = require "respool.consume.batch"
local batch_state = require "respool.consume.batch_state"
local core = require "respool.core"
local closing = require "respool.observe.closing"
local compat = require "respool.support.compat"
local decide = require "respool.consume.decide"
local flow = require "respool.consume.flow"
local held_by = require "respool.consume.held"
local hooks = require "respool.observe.hooks"
local item = require "respool.consume.item"
local merge = require "respool.produce.merge"
local merge_batch = require "respool.consume.merge_batch"
local options = require "respool.support.options"
local outcome = require "respool.support.outcome"
local returned = require "respool.consume.returned"
local schedules = require "respool.produce.schedules"
local take = require "respool.consume.take"
local timing = require "respool.support.timing"
local tracing = require "respool.observe.tracing"
local trend = require "respool.observe.trend"
local workers = require "respool.consume.workers"

local batches = core.batch
local state_of, closed, new_item = batch_state.of, batches.closed, item.new
local observe = batches.observe
local xpcall = compat.xpcall
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
local LONG = 20000 -- microseconds of a handler, beside which a look is cheap
local GROWTH = 4  -- of a batch to the next, at most
local MOST, MERGE_BATCH, ORDERED_BATCH = 1000, 100, 1
local BYTES = 16 * 2^20 -- of payload a batch, where its size is ours to choose

local function new_counts()
  return {
    items = 0, done = 0, failed = 0, released = 0, snoozed = 0, lost = 0,
    batches = 0,
  }
end

-- A traceback as far as the handler goes: what calls it is always the same.
local function trim(trace)
  return (trace:gsub("^%s+", "")
    :gsub("\n[^\n]*%[C%]: in function '[^'\n]*xpcall'.*", ""))
end

-- The message handler keeps the traceback of the error it is called for.
local function catcher(loop)
  return function(err)
    loop.trace = trim(compat.traceback())
    return err
  end
end

-- The clocks that time handlers, in microseconds: a manual clock gives its own
-- time, else observe() looks at the end for itself.
local function clocks(store)
  if not store.manual then return core.mono, nil end
  local handle = store.handle
  local function manual()
    return handle:closed() and 0 or handle:now() * 1e6
  end
  return manual, manual
end

local function new_loop(queue, handler, serve, o)
  local config, message, code = queue.handle:config()
  if not config then return nil, message, code end
  local loop = {
    queue = queue, handler = handler, serve = serve, o = o,
    stops = queue.stops, ordered = config.ordered == 1,
    keeps = config.keep_done > 0,
    parts_ordered = config.partition_ordered == 1,
    counts = new_counts(), unflushed = false, tracer = queue.store.tracer,
  }
  loop.row = flow.row(queue, config)
  loop.merge = merge_batch.of_work(queue, o.merge, loop.ordered)
  loop.size = o.batch or loop.ordered and ORDERED_BATCH
    or queue.batch_size or loop.merge and MERGE_BATCH or 1
  loop.adapts = not o.batch and not loop.ordered
  loop.read, loop.catch = item.reader(queue), catcher(loop)
  loop.start, loop.stop = clocks(queue.store)
  loop.ends = o.seconds and queue.store.handle:now() + o.seconds
  return loop
end

local function is_stopped(loop)
  local queue = loop.queue
  return timing.is_stopped(queue, loop.stops)
    or loop.ends and queue.store.handle:now() >= loop.ends
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


-- Serving a batch. The item that a handler is at is not handled yet: when the
-- store is closed or the program interrupted by then, it is released.

-- The result of a handler's call: true when it succeeded, with what it returned
-- as a fifth value, else an outcome, or an error and its trace.
local function result_of(loop, ok, first, second)
  if not ok then
    if compat.is_interrupt(first) then error(first, 0) end
    return false, nil, first, loop.trace
  elseif outcome.is_done(first, second) then
    return true, nil, nil, nil, first
  elseif outcome.is_outcome(first) then
    return false, first
  end
  return false, nil, outcome.error_of("the handler", first, second)
end

-- Marks an item whose handler did not return normally, or returned a result
-- that is kept. True when it did return so.
local function record_result(loop, it, ok, first, second)
  local well, explicit, err, trace = result_of(loop, ok, first, second)
  if closed(it[1]) then return well end
  if well then
    if loop.keeps then returned.keep(loop.queue, it, first) end
    return true
  end
  if not explicit then
    decide.fail(loop.queue, it, err, trace, loop.o.on_error)
  elseif not batches.settled(it[1], it[2]) then
    flow.note(loop.row, explicit)
    decide.apply(loop.queue, it, explicit)
  end
  return false
end

-- Passes on what the handler returned, noting how long it took with `n` items
-- since loop.started. The end of one call is the start of the next: to ask the
-- clock again for every item would cost as much as to deliver it.
local function timed(loop, batch, n, ...)
  loop.started = observe(batch, n, loop.started, loop.stop and loop.stop())
  return ...
end

local function call_untraced(loop, batch, it, payload, n)
  local ok, a, b = timed(loop, batch, n,
                         xpcall(loop.handler, loop.catch, payload, it))
  if ok and a == nil and b == nil then return true end -- as most do
  local well = record_result(loop, it, ok, a, b)
  loop.started = loop.start()
  return well
end

-- Calls serve(loop, batch, ...) as a handler that the tracer hears of: true
-- when it went well.
local function traced(loop, event, serve, batch, ...)
  local store = loop.queue.store
  event.queue = loop.queue.name
  loop.handling = tracing.enter(store, event)
  local well = serve(loop, batch, ...)
  tracing.leave(store, loop.handling, event.item, well)
  loop.handling = nil
  return well
end

-- Calls the handler for `n` items that are one. True when it went well.
local function call_handler(loop, batch, it, payload, n)
  if not loop.tracer then
    return call_untraced(loop, batch, it, payload, n)
  end
  return traced(loop, { items = n, item = it, headers = it.headers },
                call_untraced, batch, it, payload, n)
end

local function serve_item(loop, batch, i)
  local payload, problem, reason = loop.read(batch, i)
  local it = new_item(batch, i, payload)
  if closing.is_immediate(loop.queue.store) then return false end -- by a codec
  if payload == nil then
    decide.undecodable(loop.queue, it, problem, reason)
    return false
  end
  return call_handler(loop, batch, it, payload, 1)
end

-- In strict order nothing may follow an item that is not done.
local function holds_up(batch, i, well)
  local kind = batches.kind(batch, i)
  return not (well and (kind == outcome.NONE or kind == outcome.DONE))
end

-- Whether the store is closed, or is to be closed with item `i` released.
local function is_cut_off(loop, batch, i)
  if closed(batch) then return true end
  if not closing.is_immediate(loop.queue.store) then return false end
  if not batches.settled(batch, i) then
    decide.apply(loop.queue, new_item(batch, i), outcome.release())
  end
  return true
end

-- Serves an item, unless it was cancelled; false when no other is to be served.
local function serve_one(loop, batch, i, cancelled)
  local row, well = loop.row, cancelled or serve_item(loop, batch, i)
  if loop.queue.stops ~= loop.stops and is_cut_off(loop, batch, i) then
    return false
  end
  state_of(batch).handled = i
  loop.counts.items = loop.counts.items + 1
  if flow.has_news(row) and flow.breaks_off(row, batch, i) then return false end
  if not (loop.ordered or loop.parts_ordered) or not holds_up(batch, i, well)
  then
    return true
  end
  flow.put_off(row, batch, i)
  return not loop.ordered
end

local function serve_items(loop, batch)
  local store = loop.queue.store
  local cancels = store.cancels
  loop.started = loop.start()
  local before = loop.started
  for i = 1, #batch do
    if is_stopped(loop) then return end
    -- An item that is not begun may have been cancelled while the one before
    -- was in hand: the store is asked where something was cancelled here, or
    -- where a look costs little beside what that one took.
    local skipped = (store.cancels ~= cancels or loop.started - before >= LONG)
      and held_by.is_gone(batch, i)
    before = loop.started
    if loop.row.off and flow.is_off(loop.row, batch, i) then
      batches.mark(batch, i, outcome.RELEASE)
      state_of(batch).handled = i
    elseif not serve_one(loop, batch, i, skipped) then
      return
    end
  end
end

-- The groups that the items of a batch were merged into, and how many items
-- are in none.
local function merged(loop, batch)
  return merge_batch.gather(batch, loop.merge, loop.read, function(it, err)
    decide.fail(loop.queue, it, err, nil, loop.o.on_error)
  end)
end

-- Serves a group; false when the work is cut off. A group that succeeded is
-- marked, as its items lie anywhere in the batch.
local function serve_group(loop, batch, group)
  local n = 1 + #batch_state.followers(batch, group.i)
  local it = new_item(batch, group.i, group.payload)
  local well = call_handler(loop, batch, it, group.payload, n)
  if is_cut_off(loop, batch, group.i) then return false end
  if well and batches.kind(batch, group.i) == outcome.NONE then it:done() end
  loop.counts.items = loop.counts.items + n
  return true
end

local function serve_groups(loop, batch)
  local groups, refused = merged(loop, batch)
  loop.counts.items = loop.counts.items + refused
  if closing.is_immediate(loop.queue.store) then -- by key, with or upgrade
    batches.mark_all(batch, outcome.RELEASE)
    return
  end
  loop.started = loop.start()
  for _, group in ipairs(groups) do
    if is_stopped(loop) then return end
    if not serve_group(loop, batch, group)
       or flow.breaks_off(loop.row, batch, group.i) then
      return
    end
  end
end

local function fail_rest(loop, batch, err, trace)
  for i = 1, #batch do
    if closing.is_immediate(loop.queue.store) then break end -- by a hook
    if batches.kind(batch, i) == outcome.NONE then
      decide.fail(loop.queue, new_item(batch, i), err, trace, loop.o.on_error)
    end
  end
end

-- Calls the handler for a batch. True when it went well.
local function call_for_batch(loop, batch)
  local n = #batch
  loop.started = loop.start()
  local well, explicit, err, trace, results = result_of(
    loop, timed(loop, batch, n, xpcall(loop.handler, loop.catch, batch)))
  loop.counts.items = loop.counts.items + n
  if closed(batch) or closing.is_immediate(loop.queue.store) then
    return well
  elseif well then
    state_of(batch).handled = n
    if loop.keeps then returned.keep_all(loop.queue, batch, results) end
  elseif explicit then
    batch_of.mark_rest(batch, explicit)
  else
    fail_rest(loop, batch, err, trace)
  end
  if closing.is_immediate(loop.queue.store) then batch:release() end
  return well
end

-- Delivers the batch as a whole; the handler's call decides for the items that
-- the handler has not marked.
local function serve_batch(loop, batch)
  if loop.merge then merged(loop, batch) end
  if loop.tracer then
    traced(loop, { items = #batch, batch = batch }, call_for_batch, batch)
  else
    call_for_batch(loop, batch)
  end
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
    is_cut_off(loop, batch, i)
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

local function serve(loop, batch)
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
    serve(loop, batch)
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
  return run(queue, handler, o.merge and serve_groups or serve_items, o)
end

-- Calls handler(batch) for batch after batch. Where the queue keeps results
-- (`keep_done`), the handler may return a list: the result of batch[i] at i.
---@param queue respool.queue
---@param handler fun(batch: respool.batch): ...
---@param given respool.work_options?
---@return respool.work_counts?, string?, string?, respool.work_counts?
function M.work_batches(queue, handler, given)
  options.argument(1, "queue:work_batches", handler, options.callable)
  return run(queue, handler, serve_batch, options.read(BATCHES_FORM, given, 2))
end

return M
