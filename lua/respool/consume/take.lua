-- SPDX-License-Identifier: MIT
--
-- Takes: their options, and waiting for items.

local batch_state = require "respool.consume.batch_state"
local closing = require "respool.observe.closing"
local hooks = require "respool.observe.hooks"
local options = require "respool.support.options"
local schedules = require "respool.produce.schedules"
local timing = require "respool.support.timing"
local tracing = require "respool.observe.tracing"

local M = {}

---@class respool.take_options
---@field limit integer? items at most; 1 when not given
---@field bytes integer|string? of payload at most, but one item
---@field timeout respool.seconds? for something to come; 0 when not given
---@field lease respool.seconds? from 1 ms to 7 days; the queue's

local limit = options.whole(1, 2^31)

M.form = {
  of = "queue:take",
  limit = limit,
  bytes = options.size,
  timeout = options.seconds_or_huge,
  lease = options.lease,
}

-- Options of a take in the commit of a settle, which waits for nothing.
M.carried_form = {
  of = "batch:settle", limit = limit, bytes = options.size,
  lease = options.lease,
}

-- The number of the worker that takes by this handle.
---@param queue respool.queue
---@return integer?
function M.worker(queue)
  return queue.worker and queue.worker.number
end

-- Batches are known to their store, which settles them when it is closed.
---@return respool.batch
function M.track(batch, queue)
  queue.store.batches[batch] = true
  return batch
end

local function once(queue, o, wait)
  local batch, message, code = queue.handle:take(
    batch_state.new(queue), o.limit, o.bytes, wait, o.lease, M.worker(queue))
  if not batch then return nil, message, code end
  if #batch > 0 then M.track(batch, queue) end
  hooks.drain(queue.store)
  return batch
end

-- A batch by one call into the core, of length 0 when nothing came.
---@param queue respool.queue
---@param o table options as the form keeps them
---@param wait number seconds
---@return respool.batch?, string?, string?
function M.once(queue, o, wait)
  return tracing.take(once, queue, o, wait)
end

-- How long to wait for items now: no longer than until the next tick of a
-- schedule, once those that are due have been fired.
local function slice(store, left)
  schedules.tick(store)
  return math.min(timing.take_slice(store, left), schedules.wait(store))
end

local function take(queue, o)
  local left, manual = o.timeout or 0, queue.store.manual
  local ends = timing.deadline(left)
  while true do
    if closing.refuses(queue.store) then return closing.refusal(queue.store) end
    local wait = left > 0 and slice(queue.store, left) or 0
    local batch, message, code = once(queue, o, wait)
    if not batch then return nil, message, code end
    left = manual and left - wait or timing.left(ends)
    if left <= 0 or queue.store.closing or #batch > 0 or timing.is_ending() then
      return batch
    end
  end
end

-- A batch, of length 0 when nothing came within `o.timeout` seconds.
---@param queue respool.queue
---@param o table
---@return respool.batch?, string?, string?
function M.take(queue, o)
  return tracing.take(take, queue, o)
end

return M
