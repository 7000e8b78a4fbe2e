-- SPDX-License-Identifier: MIT
--
-- Work on several items at a time, in one thread: each is handled by a task
-- of a loop (respool/support/loop.lua), so that a request which waits for its
-- answer lets the others go on.
--
-- Items are taken in batches of as many as may be handled at once. A batch is
-- settled when all its items are handled, and what is handled of it when the
-- first of these outcomes is SETTLE_AFTER old: one slow item does not hold
-- back what became of the others.

local compat = require "respool.support.compat"
local core = require "respool.core"
local decide = require "respool.consume.decide"
local flow = require "respool.consume.flow"
local item_of = require "respool.consume.item"
local loop_of = require "respool.support.loop"
local batch_of = require "respool.consume.batch"
local outcome = require "respool.support.outcome"
local returned = require "respool.consume.returned"
local take = require "respool.consume.take"
local timing = require "respool.support.timing"
local tracing = require "respool.observe.tracing"
local workers = require "respool.consume.workers"

local batches = core.batch
local now = loop_of.now
local process = core.process

local M = {}

local SETTLE_AFTER = 0.1   -- seconds
local LOOK = 0.02          -- between looks for items while others are handled
local TICK = 0.1           -- between two calls of `tick`
local BYTES = 64 * 2^20    -- of payload a batch, but one item

---@class respool.concurrent_options
---@field poll fun(loop: respool.loop, seconds: number) as the loop's
---@field cancel fun(loop: respool.loop) gives up what its tasks wait for
---@field concurrency integer items at a time; in strict order 1, but for that
--- of partitions, of which each gives one
---@field rate number? items begun a second
---@field until_empty boolean? ends as work with stop_when_empty
---@field deadline number seconds that items may take once it is to stop
---@field tick fun(counts: respool.concurrent_counts)? called now and then
---@field name string? of the worker; the queue's

---@class respool.concurrent_counts
---@field done integer
---@field failed integer to be retried, dead or dropped
---@field released integer
---@field snoozed integer
---@field lost integer settled too late

-- A batch with items that are not handled yet.
---@class respool.concurrent_part
---@field batch respool.batch
---@field next integer number of the first item not begun
---@field left integer items not handled
---@field since number? when the first outcome came that is not settled
---@field running table<integer, respool.item>


-- Handling an item.

local function judge(delivery, item, ok, first, second)
  if ok and outcome.is_done(first, second) then
    if not (delivery.keeps and returned.keep(delivery.queue, item, first)) then
      item:done()
    end
    return
  end
  if ok and outcome.is_outcome(first) then
    flow.note(delivery.row, first)
    return decide.apply(delivery.queue, item, first)
  end
  local err = not ok and first or second
  if err == nil then err = "the handler returned false" end
  return decide.fail(delivery.queue, item, err)
end

local COUNTED = {
  [outcome.DONE] = "done", [outcome.RELEASE] = "released",
  [outcome.SNOOZE] = "snoozed", [outcome.HOLD] = "released",
}

-- Gives back items that have not begun, up to the `upto`th of their batch.
local function give_back(delivery, part, upto)
  for i = part.next, upto do batches.mark(part.batch, i, outcome.RELEASE) end
  local n = upto - part.next + 1
  delivery.counts.released = delivery.counts.released + n
  part.next, part.left = upto + 1, part.left - n
  part.since = 0
end

-- The queue is held from the next settle on: what has not begun goes back with
-- it, at once.
local function break_off(delivery)
  for _, part in ipairs(delivery.parts) do
    give_back(delivery, part, #part.batch)
  end
end

local function handled(delivery, part, i)
  local name = COUNTED[batches.kind(part.batch, i)] or "failed"
  delivery.counts[name] = delivery.counts[name] + 1
  delivery.busy = delivery.busy - 1
  part.running[i], part.left = nil, part.left - 1
  part.since = part.since or now()
  if flow.breaks_off(delivery.row, part.batch, i) then break_off(delivery) end
end

local function call(delivery, batch, item, payload)
  local store = delivery.queue.store
  local trace = store.tracer and tracing.enter(store, {
    queue = delivery.queue.name, items = 1, item = item, headers = item.headers,
  })
  local started = core.mono()
  local results = { compat.task_pcall(delivery.handler, payload, item) }
  batches.observe(batch, 1, started)
  judge(delivery, item, results[1], results[2], results[3])
  if trace then tracing.leave(store, trace, item, false) end
end

local function handle(delivery, part, i)
  local payload, problem, reason = delivery.read(part.batch, i)
  local item = part.running[i]
  if payload == nil then
    decide.undecodable(delivery.queue, item, problem, reason)
  else
    call(delivery, part.batch, item, payload)
  end
  handled(delivery, part, i)
end

local function begin_next(delivery, part)
  local i = part.next
  part.next, part.running[i] = i + 1, item_of.new(part.batch, i)
  delivery.busy = delivery.busy + 1
  delivery.loop:spawn(handle, delivery, part, i)
end

-- Whether `rate` lets an item begin now. A share that was not used is kept for
-- the length of one pause.
local function is_let(delivery)
  local rate, time = delivery.o.rate, now()
  if not rate then return true end
  delivery.let_at = math.max(delivery.let_at, time - LOOK)
  if delivery.let_at > time then return false end
  delivery.let_at = delivery.let_at + 1 / rate
  return true
end

-- Is the next item of a partition that is off? It goes back.
local function passes_over(delivery, part)
  local off = flow.is_off(delivery.row, part.batch, part.next)
  if off then give_back(delivery, part, part.next) end
  return off
end

-- Begins as many items as there is room for.
local function begin(delivery)
  for _, part in ipairs(delivery.parts) do
    while part.next <= #part.batch do
      if delivery.busy >= delivery.most or delivery.stopping then return end
      if not passes_over(delivery, part) then
        if not is_let(delivery) then return end
        begin_next(delivery, part)
      end
    end
  end
end


-- Batches.

local function has_backlog(delivery)
  local last = delivery.parts[#delivery.parts]
  return last ~= nil and last.next <= #last.batch
end

-- Takes a batch. True when there is one.
local function fetch(delivery, wait)
  local batch, message, code = take.once(
    delivery.queue, { limit = delivery.most, bytes = BYTES }, wait)
  if not batch then return nil, message, code end
  if #batch == 0 then
    delivery.look_at = now() + LOOK
    return false
  end
  local ok
  ok, message, code = batches.keep(batch)
  table.insert(delivery.parts, {
    batch = batch, next = 1, left = #batch, running = {},
  })
  if not ok then return nil, message, code end
  return true
end

-- Commits the handled items of a batch; flush() makes that durable.
local function settle(delivery, part)
  local ok, message, code = batch_of.settle_items(part.batch, nil, true,
    function(i, err)
      decide.fail(delivery.queue, item_of.new(part.batch, i), err)
    end)
  part.since, delivery.unflushed = nil, delivery.unflushed or now()
  flow.settled(delivery.row)
  if ok then return true end
  if code ~= "LEASE_LOST" then return nil, message, code end
  delivery.counts.lost = delivery.counts.lost + batches.lost(part.batch)
  return true
end

local function settle_due(delivery)
  local kept = {}
  for _, part in ipairs(delivery.parts) do
    local due = part.since and now() - part.since >= SETTLE_AFTER
    if part.left == 0 or due then
      local ok, message, code = settle(delivery, part)
      if not ok then return nil, message, code end
    end
    if part.left == 0 then
      batch_of.shut(part.batch)
    else
      kept[#kept + 1] = part
    end
  end
  delivery.parts = kept
  return true
end

local function flush(delivery)
  delivery.unflushed = nil
  return delivery.queue.store.handle:flush()
end

local function flush_due(delivery)
  if delivery.unflushed and (delivery.busy == 0
     or now() - delivery.unflushed >= SETTLE_AFTER) then
    return flush(delivery)
  end
  return true
end


-- The whole.

-- Whether it is time to end: everything is over, or took too long.
local function heed_signals(delivery)
  local signals = process.signals() - delivery.signals
  if signals == 0 and not delivery.queue.worker.stopping then return false end
  if not delivery.stopping then
    delivery.stopping, delivery.ends = true, now() + delivery.o.deadline
  end
  return delivery.busy == 0 or signals > 1 or now() >= delivery.ends
end

local function is_drained(delivery)
  if not delivery.o.until_empty or delivery.busy > 0 then return false end
  return flow.is_drained(delivery.row)
end

-- Sees that there is something to do. True when the work is over.
local function supply(delivery)
  if delivery.stopping or has_backlog(delivery)
     or delivery.busy >= delivery.most
     or delivery.busy > 0 and now() < delivery.look_at then
    return false
  end
  local idle = delivery.busy == 0 and #delivery.parts == 0
  local wait = idle
    and flow.slice(delivery.row, timing.take_slice(delivery.queue.store)) or 0
  local found, message, code = fetch(delivery, wait)
  if found == nil then return nil, message, code end
  if found then return false end
  return is_drained(delivery)
end

local function pause_of(delivery)
  if delivery.busy == 0 and not has_backlog(delivery) then return 0 end
  return delivery.busy < delivery.most and LOOK or SETTLE_AFTER
end

local function tick(delivery)
  local store = delivery.queue.store
  workers.tick(delivery.queue)
  if store.tracer then tracing.tick(store, true) end
  if not delivery.o.tick or now() < delivery.tick_at then return end
  delivery.tick_at = now() + TICK
  delivery.o.tick(delivery.counts)
end

-- One round; true when the work is over.
local function round(delivery)
  local over, message, code = supply(delivery)
  if over == nil then return nil, message, code end
  begin(delivery)
  delivery.loop:step(pause_of(delivery))
  local ok
  ok, message, code = settle_due(delivery)
  if ok then ok, message, code = flush_due(delivery) end
  if not ok then return nil, message, code end
  tick(delivery)
  return over or heed_signals(delivery)
end

-- Releases the items that are not handled, with their memos.
local function abandon(delivery)
  delivery.o.cancel(delivery.loop)
  for _, part in ipairs(delivery.parts) do
    for _, item in pairs(part.running) do item:release() end
    delivery.counts.released = delivery.counts.released + part.left
    batches.mark_rest(part.batch, outcome.RELEASE)
    settle(delivery, part)
    batch_of.shut(part.batch)
  end
  delivery.parts = {}
end

local function run(delivery)
  local over, message, code
  repeat
    over, message, code = round(delivery)
  until over ~= false
  abandon(delivery)
  local ok, flush_message, flush_code = flush(delivery)
  if over == nil then return nil, message, code end
  if not ok then return nil, flush_message, flush_code end
  return delivery.counts
end

-- Must items of a batch be handled one after the other?
local function is_strict(config)
  return config.ordered == 1
    or config.partition_ordered == 1 and config.partition_batch > 1
end

-- Calls handler(payload, item) for item after item, several at a time, until
-- SIGTERM, SIGINT or a request to its worker: then what is being handled may
-- come to its end for `deadline` seconds. A second signal ends it at once.
-- Items that are not handled are released.
---@param queue respool.queue
---@param handler respool.handler
---@param o respool.concurrent_options
---@return respool.concurrent_counts?, string?, string?
function M.run(queue, handler, o)
  local config, message, code = queue.handle:config()
  if not config then return nil, message, code end
  local delivery = {
    queue = queue, handler = handler, o = o,
    row = flow.row(queue, config), loop = loop_of.new(o.poll),
    read = item_of.reader(queue), parts = {}, busy = 0,
    look_at = 0, tick_at = 0, let_at = 0,
    most = is_strict(config) and 1 or o.concurrency,
    keeps = config.keep_done > 0,
    signals = process.signals(), stopping = false,
    counts = { done = 0, failed = 0, released = 0, snoozed = 0, lost = 0 },
  }
  function queue.signal() return delivery.stopping end
  workers.enter(queue, o.name)
  local results = { pcall(run, delivery) }
  workers.leave(queue)
  if not results[1] then error(results[2], 0) end
  return compat.unpack(results, 2, 4)
end

return M
