-- SPDX-License-Identifier: MIT
--
-- Handler memo: which handlers of a fan-out have accepted an item, by their
-- places. It is kept in the state of the batch until the mark of the item
-- stores it; then it is the item's memo, which survives the process, death and
-- replay.

local batch_state = require "respool.consume.batch_state"
local core = require "respool.core"

local batches = core.batch
local cbor = core.cbor

local M = {}

M.MOST = 4096 -- bytes, as in respool.h

-- The memo of an item: that of this delivery, else what an earlier one stored.
---@param batch respool.batch
---@param i integer
---@return string?
function M.memo(batch, i)
  local memos = batch_state.of(batch).memos
  return memos and memos[i]
    or batches.field(batch, i, batches.fields.memo)
end

local function set(batch, i, memo)
  local state = batch_state.of(batch)
  state.memos = state.memos or {}
  state.memos[i] = memo
end

-- An item that was merged into another gets the same memo.
---@param batch respool.batch
---@param i integer
---@param follower integer
function M.share(batch, i, follower)
  local memos = batch_state.of(batch).memos
  if memos and memos[i] then set(batch, follower, memos[i]) end
end

-- The places of the handlers that have accepted, as a list and as a set.
---@param batch respool.batch
---@param i integer
---@return table
function M.accepted_by(batch, i)
  local accepted, memo = {}, M.memo(batch, i)
  local list = memo and cbor.decode(memo)
  for _, place in ipairs(type(list) == "table" and list or {}) do
    accepted[#accepted + 1] = place
    accepted[place] = true
  end
  return accepted
end

-- The handler at this place has accepted.
---@param batch respool.batch
---@param i integer
---@param place string
function M.add_accepted(batch, i, place)
  local list = {}
  for k, name in ipairs(M.accepted_by(batch, i)) do list[k] = name end
  list[#list + 1] = place
  local memo = cbor.encode(list)
  if #memo > M.MOST then
    error("respool.fan_out: names of handlers over 4096 bytes", 0)
  end
  set(batch, i, memo)
end

-- The handlers at these places, of this delivery, have not accepted after all.
---@param batch respool.batch
---@param i integer
---@param places table<string, boolean>
function M.remove_accepted(batch, i, places)
  if next(places) == nil then return end
  local list = {}
  for _, name in ipairs(M.accepted_by(batch, i)) do
    if not places[name] then list[#list + 1] = name end
  end
  set(batch, i, #list > 0 and cbor.encode(list) or nil)
end

return M
