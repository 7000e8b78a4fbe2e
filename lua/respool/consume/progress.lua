-- SPDX-License-Identifier: MIT
--
-- Progress that handlers report: kept with the lease, and shown where items and
-- workers are. A report within a second of one that was stored is not stored,
-- unless it says that all is done: so a handler may report as often as it
-- likes.

local core = require "respool.core"
local batch_state = require "respool.consume.batch_state"
local compat = require "respool.support.compat"
local held = require "respool.consume.held"
local options = require "respool.support.options"
local timing = require "respool.support.timing"

local batches = core.batch

local M = {}

local ID = batches.fields.id
local GAP = 1 -- seconds between reports that are stored

---@class respool.reported
---@field at number of the last that was stored
---@field done number? that it said

local function fraction(value)
  if type(value) == "number" and value >= 0 and value <= 1 then return value end
  return nil, "a number from 0 to 1"
end

local function check(done, text)
  if done ~= nil then options.argument(1, "item:progress", done, fraction) end
  if text ~= nil then
    options.argument(2, "item:progress", text, options.string)
  elseif done == nil then
    compat.misuse "item:progress: give a number from 0 to 1, or a text"
  end
end

-- Whether a report is to be stored now.
local function is_due(last, done, now)
  if not last or now - last.at >= GAP or now < last.at then return true end
  return done == 1 and last.done ~= 1
end

-- Reports of item `i`.
---@param batch respool.batch
---@param i integer
---@param done number?
---@param text string?
---@return true?, string?, string?
function M.report(batch, i, done, text)
  check(done, text)
  local state, id = batch_state.of(batch), batches.field(batch, i, ID)
  local queue = state.queue
  if batches.settled(batch, i) then
    return nil, ("item %d of queue '%s' is settled"):format(id, queue.name),
      "LEASE_LOST"
  end
  local now = timing.time(queue.store)
  local reported = state.reported or {}
  state.reported = reported
  if not is_due(reported[i], done, now) then return true end
  local ok, message, code = queue.handle:item_progress(
    id, batches.lease(batch), done, text)
  if ok then reported[i] = { at = now, done = done } end
  if code == "LEASE_LOST" then held.note_gone(batch, i) end
  return ok, message, code
end

-- The items with a report that are settled.
local function settled_of(batch, reported)
  local list = {}
  for i in pairs(reported) do
    if batches.settled(batch, i) then list[#list + 1] = i end
  end
  return list
end

-- Removes what was reported of items that are settled. Where that fails they
-- are left to maintenance: nobody is shown them. Handlers of other items may
-- report meanwhile, where a call yields.
---@param batch respool.batch
function M.forget(batch)
  local state = batch_state.of(batch)
  local reported, handle = state.reported, state.queue.handle
  if not reported or batches.closed(batch) then return end
  for _, i in ipairs(settled_of(batch, reported)) do
    if batches.closed(batch) or handle:closed() then return end
    reported[i] = nil
    handle:item_progress(batches.field(batch, i, ID), batches.lease(batch))
  end
end

return M
