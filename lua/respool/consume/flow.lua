-- SPDX-License-Identifier: MIT
--
-- The flow of a queue, as those see it that work on it. The core decides what
-- may be taken; here is what it is told (which failures are outages of what
-- items are sent to), when the rest of a batch is not worth trying, and what
-- the log says of breakers and holds.
--
-- A queue handle counts the marks that bear on its flow in `flow_marks`: one
-- comparison tells whether there was any.

local core = require "respool.core"
local hooks = require "respool.observe.hooks"
local outcome = require "respool.support.outcome"

local batches = core.batch

local M = {}

local PARTITION = batches.fields.partition

-- Groups of errors that mean: nobody there. Those of respool.http; handlers
-- may give them, too.
local OUTAGES = { refused = true, timeout = true, closed = true,
                  resolve = true }

-- Whether a group of errors means that what an item was sent to is away: no
-- answer, or a status of 5xx.
---@param group string?
---@return boolean
function M.is_outage(group)
  return group ~= nil and (OUTAGES[group] or group:find "^5%d%d$" ~= nil)
end

-- Says of a mark whether it is an outage, as the queue's `is_outage` or else
-- the error's group has it.
---@param queue respool.queue
---@param mark respool.mark
---@param err any
function M.judge(queue, mark, err)
  if mark.kind ~= outcome.RETRY then return end
  local yes = M.is_outage(mark.group)
  if queue.is_outage then
    local ok, answer = hooks.pcall(queue.store, queue.is_outage, err)
    if ok then
      yes = answer and true or false
    else
      hooks.report(queue.store, "is_outage", outcome.describe(answer).text)
    end
  end
  mark.outage = yes or nil
end

-- Counts a mark that bears on the flow.
---@param queue respool.queue
---@param mark respool.mark
function M.count(queue, mark)
  if not mark.outage and mark.kind ~= outcome.HOLD then return end
  queue.flow_marks, queue.flow_kind = queue.flow_marks + 1, mark.kind
  queue.store.news = queue.store.news + 1
end


-- Whether to go on with the items in hand.

---@class respool.flow_row
---@field queue respool.queue
---@field most integer outages in a row that open the breaker; 0: none
---@field n integer outages in a row
---@field most_of integer the same of a partition
---@field of table<string, integer> outages in a row, of partitions
---@field in_row boolean is there an outage in a row, of the queue or of a
--- partition?
---@field off table<string, true>? partitions of which nothing more is to be
--- tried before the next settle
---@field marks integer of the queue, when it was asked last
---@field delay number? the longest of the items held that are not settled yet
---@field due number by then the items that were held are ready

---@param queue respool.queue
---@param config table as the core gives it
---@return respool.flow_row
function M.row(queue, config)
  return {
    queue = queue, most = config.breaker_failures, n = 0,
    most_of = config.partition_breaker_failures, of = {}, in_row = false,
    marks = queue.flow_marks, due = 0,
  }
end

-- Notes an outcome that holds an item by itself.
---@param row respool.flow_row
---@param o respool.outcome
function M.note(row, o)
  if o.held then row.delay = math.max(row.delay or 0, o.delay) end
end

-- How long to wait at a time, of so many seconds: until the items that it held
-- are ready. The core counts milliseconds.
---@param row respool.flow_row
---@param seconds number
---@return number
function M.slice(row, seconds)
  local left = row.due > 0 and row.due - row.queue.store.handle:now() or 0
  if left <= 0 then return seconds end
  return math.min(seconds, math.max(left, 0.001))
end

-- Whether items are left to a worker that ends when its queue is empty: those
-- that are ready, leased by anybody or retrying, and those that it held. Items
-- scheduled for later are not, nor those of a paused queue.
---@param row respool.flow_row
---@return boolean?, string?, string?
function M.is_drained(row)
  local queue = row.queue
  local stats, message, code = queue.handle:stat()
  if not stats then return nil, message, code end
  local held = row.due > 0 and queue.store.handle:now() < row.due
    and stats.scheduled or 0
  return stats.paused
    or stats.ready + stats.leased + stats.retrying + held == 0
end

-- Nothing more of the item's partition is to be tried before the next settle.
---@param row respool.flow_row
---@param batch respool.batch
---@param i integer
function M.put_off(row, batch, i)
  local partition = batches.field(batch, i, PARTITION)
  row.off = row.off or {}
  if partition then row.off[partition] = true end
end

-- Is that so of this item's?
---@param row respool.flow_row
---@param batch respool.batch
---@param i integer
---@return boolean
function M.is_off(row, batch, i)
  local partition = row.off and batches.field(batch, i, PARTITION)
  return partition and row.off[partition] or false
end

-- Notes that an item of a partition holds it, or is an outage.
local function note_partition(row, partition, batch, i)
  local n = (row.of[partition] or 0) + 1
  row.of[partition] = n
  if row.queue.flow_kind == outcome.HOLD
     or row.most_of > 0 and n >= row.most_of then
    M.put_off(row, batch, i)
  end
end

local function note_item(row, batch, i)
  local queue, partition = row.queue, batches.field(batch, i, PARTITION)
  if queue.flow_marks == row.marks then
    row.n = 0
    if partition then row.of[partition] = nil end
    return false
  end
  row.marks = queue.flow_marks
  if partition then note_partition(row, partition, batch, i) end
  if queue.flow_kind == outcome.HOLD then return not partition end
  row.n = row.n + 1
  return row.most > 0 and row.n >= row.most
end

-- Is there anything to ask breaks_off for?
---@param row respool.flow_row
---@return boolean
function M.has_news(row)
  return row.in_row or row.queue.flow_marks ~= row.marks
end

-- To be asked after each item: true when nothing more is to be tried, as the
-- queue is held or its breaker opens when this is settled. Where that is so of
-- the item's partition, the partition is off.
---@param row respool.flow_row
---@param batch respool.batch
---@param i integer
---@return boolean
function M.breaks_off(row, batch, i)
  local breaks = note_item(row, batch, i)
  row.in_row = row.n > 0 or next(row.of) ~= nil
  return breaks
end


-- The log.

local function tell_breaker(queue, flow)
  local last, was = flow.openings[1], queue.flow_opened
  if flow.breaker ~= 0 and flow.opened ~= was then
    hooks.log(queue.store, "warn", "the breaker opened", {
      queue = queue.name, error = last.error ~= "" and last.error or nil,
    })
  elseif flow.breaker == 0 and queue.flow_open then
    hooks.log(queue.store, "warn", "the breaker closed", {
      queue = queue.name, seconds = last and last.closed_at
        and last.closed_at - last.opened_at or nil,
    })
  end
  queue.flow_opened, queue.flow_open = flow.opened, flow.breaker ~= 0
end

local function tell_hold(queue, flow)
  local till = flow.held_until
  if till and till ~= queue.flow_held then
    hooks.log(queue.store, "info", "the queue is held", {
      queue = queue.name, seconds = till - queue.store.handle:now(),
      reason = flow.held_for ~= "" and flow.held_for or nil,
    })
  end
  queue.flow_held = till
end

-- Logs what has changed.
local function tell(queue)
  if queue.flow_marks == queue.flow_told and not queue.flow_open then return end
  queue.flow_told = queue.flow_marks
  local flow = not queue.handle:closed() and queue.handle:flow()
  if not flow then return end
  tell_breaker(queue, flow)
  tell_hold(queue, flow)
end

-- To be called after a settle. Items that it held are ready `delay` later.
---@param row respool.flow_row
function M.settled(row)
  local queue = row.queue
  row.off = nil
  if row.delay and not queue.handle:closed() then
    local due = queue.store.handle:now() + row.delay + 0.001
    row.due, row.delay = math.max(row.due, due), nil
  end
  tell(queue)
end

return M
