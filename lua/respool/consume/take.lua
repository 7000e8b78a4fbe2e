-- SPDX-License-Identifier: MIT
--
-- Takes: their options, and waiting in slices short enough for the
-- interpreter to notice Ctrl-C.

local core = require "respool.core"
local batch_state = require "respool.consume.batch_state"
local closing = require "respool.observe.closing"
local hooks = require "respool.observe.hooks"
local options = require "respool.support.options"

local max, min = math.max, math.min

local M = {}

---@class respool.take_options
---@field limit integer? items at most; 1 when not given
---@field bytes integer|string? of payload at most, but one item
---@field timeout respool.seconds? for something to come; 0 when not given
---@field lease number? seconds; the queue's when not given

local limit = options.whole(1, 2^31)

M.form = {
  of = "queue:take",
  limit = limit,
  bytes = options.size,
  timeout = options.seconds_or_huge,
  lease = options.seconds,
}

-- What may be taken in the commit of a settle, which waits for nothing.
M.carried_form = {
  of = "batch:settle", limit = limit, bytes = options.size,
  lease = options.seconds,
}

local SLICE = 0.05
local MANUAL_SLICE = 3600 -- a manual clock is moved, not slept

local LEAST = 0.001 -- the core counts milliseconds, and 0 is no wait

-- How long one call into the core may wait, of the seconds that are left.
---@param store respool.store
---@param left number? math.huge when not given
---@return number
function M.slice(store, left)
  local slice = store.manual and MANUAL_SLICE or SLICE
  return max(min(left or slice, slice), LEAST)
end

-- The end of a wait of so many seconds, which begins now; and how many are
-- left of it: by a clock that never steps, as sums of slices are not exact.
---@param wait number
---@return number
function M.deadline(wait)
  return core.mono() + wait * 1e6
end

---@param ends number
---@return number
function M.left(ends)
  return (ends - core.mono()) / 1e6
end

local ending -- tells whether the host of this process wants it to end

-- Gives a host its say: once fn() is true, work stops, and what waits for
-- more than a commit waits no longer.
---@param fn fun(): boolean
function M.set_ending(fn)
  ending = fn
end

---@return boolean
function M.is_ending()
  return ending ~= nil and ending()
end

-- Whether work that began at `stops` is to end: by stop(), by closing, by a
-- signal to this process, or with its host.
---@param queue respool.queue
---@param stops integer
---@return boolean
function M.is_stopped(queue, stops)
  return queue.stops ~= stops or queue.signal ~= nil and queue.signal()
    or ending ~= nil and ending()
end

-- Batches are known to their store, which settles them when it is closed.
---@return respool.batch
function M.track(batch, queue)
  queue.store.batches[batch] = true
  return batch
end

-- A batch by one call into the core, of length 0 when nothing came.
---@param queue respool.queue
---@param o table options as the form keeps them
---@param wait number seconds
---@return respool.batch?, string?, string?
function M.once(queue, o, wait)
  local batch, message, code = queue.handle:take(
    batch_state.new(queue), o.limit, o.bytes, wait, o.lease)
  if not batch then return nil, message, code end
  if #batch > 0 then M.track(batch, queue) end
  hooks.drain(queue.store)
  return batch
end

-- A batch, of length 0 when nothing came within `o.timeout` seconds.
---@param queue respool.queue
---@param o table
---@return respool.batch?, string?, string?
function M.take(queue, o)
  local left, manual = o.timeout or 0, queue.store.manual
  local ends = M.deadline(left)
  while true do
    if closing.refuses(queue.store) then return closing.refusal(queue.store) end
    local wait = left > 0 and M.slice(queue.store, left) or 0
    local batch, message, code = M.once(queue, o, wait)
    if not batch then return nil, message, code end
    left = manual and left - wait or M.left(ends)
    if left <= 0 or queue.store.closing or #batch > 0 or M.is_ending() then
      return batch
    end
  end
end

return M
