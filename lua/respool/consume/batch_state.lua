-- SPDX-License-Identifier: MIT
--
-- The state of a taken batch that the core does not keep. It lies beside the
-- batch's userdata; each field has one writer, named with it.

local core = require "respool.core"

local batches = core.batch
local of = batches.beside

local M = {}

---@class respool.batch_state
---@field queue respool.queue the handle that took it
---@field stops integer the handle's count of stop() calls at the take
---@field handled integer items, from the first, that a handler has dealt
--- with; by work
---@field pushes table<integer, respool.item_push[]>? what items push with
--- their outcome, by item; by item_pushes
---@field memos table<integer, string>? handler memos that this delivery has
--- changed, by item; by handler_memo
---@field marks table<integer, respool.mark>? marks that carry such a memo; by
--- mark()
---@field unreadable table<integer, respool.mark>? marks of items that cannot be
--- read; by mark_unreadable()
---@field groups respool.merge_group[]? what the items were merged into; by
--- merge_batch
---@field followers table<integer, respool.item[]>? the items that were merged
--- into another, by the number of that one; by merge_batch
---@field reported table<integer, respool.reported>? progress of items that
--- was stored, by item; by progress
---@field looks table<integer, respool.held_look>? whether items are still the
--- batch's, by item; by held
---@field items table<integer, respool.item>? those that were asked for by
--- number, weak; by item

-- The outcome that an item is marked with, in the fields that the core reads.
---@class respool.mark
---@field kind integer
---@field delay number?
---@field error string?
---@field trace string?
---@field group string?
---@field reason string?
---@field dlq string?
---@field memo string?
---@field result string? what its handler returned, in CBOR

---@param queue respool.queue
---@return respool.batch_state
function M.new(queue)
  return { queue = queue, stops = queue.stops, handled = 0 }
end

---@type fun(batch: respool.batch): respool.batch_state
M.of = of

---@param batch respool.batch
---@return respool.queue
function M.queue(batch)
  return of(batch).queue
end

local NONE = {}

-- The items that were merged into item `i`.
---@param batch respool.batch
---@param i integer
---@return respool.item[]
function M.followers(batch, i)
  local followers = of(batch).followers
  return followers and followers[i] or NONE
end

-- The item that item `i` was merged into, or itself.
---@param batch respool.batch
---@param i integer
---@return integer
function M.leader(batch, i)
  for k, followers in pairs(of(batch).followers or NONE) do
    for _, it in ipairs(followers) do
      if it[2] == i then return k end
    end
  end
  return i
end

-- Marks an item; its memo goes along. The last mark before a settle counts.
---@param batch respool.batch
---@param i integer
---@param mark respool.mark
---@return true?, string?, string?
function M.mark(batch, i, mark)
  local state = of(batch)
  mark.memo = state.memos and state.memos[i]
  if mark.memo or state.marks then
    state.marks = state.marks or {}
    state.marks[i] = mark.memo and mark or nil
  end
  return batches.mark(batch, i, mark)
end

-- Marks all items with `mark_core`, then those with memos again.
local function mark_many(batch, mark, mark_core, wanted)
  local state = of(batch)
  local again = {}
  for i in pairs(state.memos or NONE) do
    if not batches.settled(batch, i) and wanted(i) then
      again[#again + 1] = i
    end
  end
  local ok, message, code = mark_core(batch, mark)
  for _, i in ipairs(again) do
    local own = {}
    for name, value in pairs(mark) do own[name] = value end
    M.mark(batch, i, own)
  end
  if not ok then return nil, message, code end
  return ok
end

local function any()
  return true
end

-- Marks every item that is not settled, whether it has a mark or not. Items
-- that cannot be read stay dead letters: nobody has seen them.
---@param batch respool.batch
---@param mark respool.mark
---@return true?, string?, string?
function M.mark_all(batch, mark)
  local ok, message, code = mark_many(batch, mark, batches.mark_all, any)
  for i, dead in pairs(of(batch).unreadable or NONE) do
    if not batches.settled(batch, i) then M.mark(batch, i, dead) end
  end
  if not ok then return nil, message, code end
  return ok
end

-- Marks an item that cannot be read, as a dead letter.
---@param batch respool.batch
---@param i integer
---@param mark respool.mark
---@return true?, string?, string?
function M.mark_unreadable(batch, i, mark)
  local state = of(batch)
  state.unreadable = state.unreadable or {}
  state.unreadable[i] = mark
  return M.mark(batch, i, mark)
end

-- Whether the item could not be read.
---@param batch respool.batch
---@param i integer
---@return boolean
function M.is_unreadable(batch, i)
  return ((of(batch).unreadable or NONE)[i]) ~= nil
end

-- Marks every item that has no mark yet.
---@param batch respool.batch
---@param mark respool.mark
---@return true?, string?, string?
function M.mark_rest(batch, mark)
  return mark_many(batch, mark, batches.mark_rest, function(i)
    return batches.kind(batch, i) == 0
  end)
end

return M
