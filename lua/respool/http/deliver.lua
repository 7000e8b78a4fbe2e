-- SPDX-License-Identifier: MIT
--
-- Work on several items at a time, in one thread: each is handled by a task
-- of a loop (respool/http/loop.lua), so that a request which waits for its
-- answer lets the others go on.
--
-- Items are taken in batches of as many as may be handled at once. A batch is
-- settled when all its items are handled, and what is handled of it when the
-- first of these outcomes is SETTLE_AFTER old: one slow item does not hold
-- back what became of the others.

local client_of = require "respool.http.client"
local core = require "respool.core"
local decide = require "respool.consume.decide"
local item_of = require "respool.consume.item"
local loop_of = require "respool.http.loop"
local batch_of = require "respool.consume.batch"
local outcome = require "respool.support.outcome"
local take = require "respool.consume.take"

local batches = core.batch
local now = loop_of.now
local process = core.process

local M = {}

local SETTLE_AFTER = 0.1   -- seconds
local IDLE = 0.05          -- of waiting for items when there is nothing to do
local LOOK = 0.02          -- between looks for items while others are handled
local TICK = 0.1           -- between two calls of `tick`
local BYTES = 64 * 2^20    -- of payload a batch, but one item

---@class respool.http.courier_options
---@field concurrency integer items at a time; in an ordered queue 1
---@field rate number? items begun a second
---@field until_empty boolean? ends when nothing is ready, leased, retrying or
--- snoozed by it
---@field deadline number seconds that items may take once it is to stop
---@field tick fun(counts: respool.http.courier_counts)? called now and then

---@class respool.http.courier_counts
---@field done integer
---@field failed integer to be retried, dead or dropped
---@field released integer
---@field snoozed integer
---@field lost integer settled too late

-- A batch with items that are not handled yet.
---@class respool.http.consignment
---@field batch respool.batch
---@field next integer number of the first item not begun
---@field left integer items not handled
---@field since number? when the first outcome came that is not settled
---@field running table<integer, respool.item>


-- Handling an item.

local function judge(courier, item, ok, first, second)
  if ok and outcome.is_done(first, second) then return item:done() end
  if ok and outcome.is_outcome(first) then
    if first.kind == outcome.SNOOZE then
      courier.due = math.max(courier.due, now() + first.delay)
    end
    return decide.apply(courier.queue, item, first)
  end
  local err = not ok and first or second
  if err == nil then err = "the handler returned false" end
  return decide.fail(courier.queue, item, err)
end

local COUNTED = {
  [outcome.DONE] = "done", [outcome.RELEASE] = "released",
  [outcome.SNOOZE] = "snoozed",
}

local function handled(courier, part, i)
  local name = COUNTED[batches.kind(part.batch, i)] or "failed"
  courier.counts[name] = courier.counts[name] + 1
  courier.busy = courier.busy - 1
  part.running[i], part.left = nil, part.left - 1
  part.since = part.since or now()
end

local function handle(courier, part, i)
  local payload, problem, reason = courier.read(part.batch, i)
  local item = part.running[i]
  if payload == nil then
    decide.undecodable(courier.queue, item, problem, reason)
  else
    local started = core.mono()
    local results = { pcall(courier.handler, payload, item) }
    batches.observe(part.batch, 1, started)
    judge(courier, item, results[1], results[2], results[3])
  end
  handled(courier, part, i)
end

local function begin_next(courier, part)
  local i = part.next
  part.next, part.running[i] = i + 1, item_of.new(part.batch, i)
  courier.busy = courier.busy + 1
  courier.loop:spawn(handle, courier, part, i)
end

-- What may begin now of `rate` a second; what was not used up is kept for
-- the time of one pause.
local function is_let(courier)
  local rate, time = courier.o.rate, now()
  if not rate then return true end
  courier.let_at = math.max(courier.let_at, time - LOOK)
  if courier.let_at > time then return false end
  courier.let_at = courier.let_at + 1 / rate
  return true
end

-- Begins as many items as there is room for.
local function begin(courier)
  for _, part in ipairs(courier.parts) do
    while part.next <= #part.batch do
      if courier.busy >= courier.most or courier.stopping
         or not is_let(courier) then
        return
      end
      begin_next(courier, part)
    end
  end
end


-- Batches.

local function has_backlog(courier)
  local last = courier.parts[#courier.parts]
  return last ~= nil and last.next <= #last.batch
end

-- Takes a batch. True when there is one.
local function fetch(courier, wait)
  local batch, message, code = take.once(
    courier.queue, { items = courier.most, bytes = BYTES }, wait)
  if not batch then return nil, message, code end
  if #batch == 0 then
    courier.look_at = now() + LOOK
    return false
  end
  local ok
  ok, message, code = batches.keep(batch)
  table.insert(courier.parts, {
    batch = batch, next = 1, left = #batch, running = {},
  })
  if not ok then return nil, message, code end
  return true
end

-- Commits what was handled of a batch; flush() makes it durable.
local function settle(courier, part)
  local ok, message, code = batch_of.settle_items(part.batch, nil, true,
    function(i, err)
      decide.fail(courier.queue, item_of.new(part.batch, i), err)
    end)
  part.since, courier.unflushed = nil, courier.unflushed or now()
  if ok then return true end
  if code ~= "LEASE_LOST" then return nil, message, code end
  courier.counts.lost = courier.counts.lost + batches.lost(part.batch)
  return true
end

local function settle_due(courier)
  local kept = {}
  for _, part in ipairs(courier.parts) do
    local due = part.since and now() - part.since >= SETTLE_AFTER
    if part.left == 0 or due then
      local ok, message, code = settle(courier, part)
      if not ok then return nil, message, code end
    end
    if part.left == 0 then
      batch_of.shut(part.batch)
    else
      kept[#kept + 1] = part
    end
  end
  courier.parts = kept
  return true
end

local function flush(courier)
  courier.unflushed = nil
  return courier.queue.store.handle:flush()
end

local function flush_due(courier)
  if courier.unflushed and (courier.busy == 0
     or now() - courier.unflushed >= SETTLE_AFTER) then
    return flush(courier)
  end
  return true
end


-- The whole.

-- Whether it is time to end: everything is over, or took too long.
local function heed_signals(courier)
  local signals = process.signals() - courier.signals
  if signals == 0 then return false end
  if not courier.stopping then
    courier.stopping, courier.ends = true, now() + courier.o.deadline
  end
  return courier.busy == 0 or signals > 1 or now() >= courier.ends
end

local function is_drained(courier)
  if not courier.o.until_empty or courier.busy > 0 then return false end
  local stats, message, code = courier.queue.handle:stat()
  if not stats then return nil, message, code end
  local held = now() < courier.due and stats.scheduled or 0
  return stats.paused or stats.ready + stats.leased + stats.retrying + held == 0
end

-- Sees that there is something to do. True when the work is over.
local function supply(courier)
  if courier.stopping or has_backlog(courier)
     or courier.busy >= courier.most
     or courier.busy > 0 and now() < courier.look_at then
    return false
  end
  local wait = courier.busy == 0 and #courier.parts == 0 and IDLE or 0
  local found, message, code = fetch(courier, wait)
  if found == nil then return nil, message, code end
  if found then return false end
  return is_drained(courier)
end

local function pause_of(courier)
  if courier.busy == 0 and not has_backlog(courier) then return 0 end
  return courier.busy < courier.most and LOOK or SETTLE_AFTER
end

local function tick(courier)
  if not courier.o.tick or now() < courier.tick_at then return end
  courier.tick_at = now() + TICK
  courier.o.tick(courier.counts)
end

-- One round; true when the work is over.
local function round(courier)
  local over, message, code = supply(courier)
  if over == nil then return nil, message, code end
  begin(courier)
  courier.loop:step(pause_of(courier))
  local ok
  ok, message, code = settle_due(courier)
  if ok then ok, message, code = flush_due(courier) end
  if not ok then return nil, message, code end
  tick(courier)
  return over or heed_signals(courier)
end

-- Hands back what is not handled; what an item has to remember goes along.
local function abandon(courier)
  client_of.cancel_all(courier.loop)
  for _, part in ipairs(courier.parts) do
    for _, item in pairs(part.running) do item:release() end
    courier.counts.released = courier.counts.released + part.left
    batches.mark_rest(part.batch, outcome.RELEASE)
    settle(courier, part)
    batch_of.shut(part.batch)
  end
  courier.parts = {}
end

local function run(courier)
  local over, message, code
  repeat
    over, message, code = round(courier)
  until over ~= false
  abandon(courier)
  local ok, flush_message, flush_code = flush(courier)
  if over == nil then return nil, message, code end
  if not ok then return nil, flush_message, flush_code end
  return courier.counts
end

-- Calls handler(payload, item) for item after item, several at a time, until
-- SIGTERM or SIGINT: then what is being handled may come to its end for
-- `deadline` seconds. A second signal ends it at once. What is not handled is
-- released.
---@param queue respool.queue
---@param handler respool.handler
---@param o respool.http.courier_options
---@return respool.http.courier_counts?, string?, string?
function M.run(queue, handler, o)
  local config, message, code = queue.handle:config()
  if not config then return nil, message, code end
  local courier = {
    queue = queue, handler = handler, o = o, loop = loop_of.new(client_of.poll),
    read = item_of.reader(queue), parts = {}, busy = 0,
    look_at = 0, tick_at = 0, let_at = 0, due = 0,
    most = config.ordered == 1 and 1 or o.concurrency,
    signals = process.signals(), stopping = false,
    counts = { done = 0, failed = 0, released = 0, snoozed = 0, lost = 0 },
  }
  function queue.signal() return courier.stopping end
  return run(courier)
end

return M
