-- SPDX-License-Identifier: MIT
--
-- What an item is to remember if it goes on: which handlers of a fan-out have
-- accepted it, by their places. It lies beside the batch, by the item's number,
-- until a mark takes it along; then it is the item's memo, kept by processes
-- that end, by death and by replay.

local core = require "respool.core"

local batches = core.batch
local cbor = core.cbor

local M = {}

M.MOST = 4096 -- bytes, as in respool.h

-- Bytes for the mark of an item to which this delivery has added something.
---@param batch respool.batch
---@param i integer
---@return string?
function M.of(batch, i)
  local memos = batches.beside(batch).memos
  return memos and memos[i]
end

-- The same, else what an earlier delivery left.
---@param batch respool.batch
---@param i integer
---@return string?
function M.memo(batch, i)
  return M.of(batch, i) or batches.field(batch, i, batches.fields.memo)
end

local function set(batch, i, memo)
  local state = batches.beside(batch)
  state.memos = state.memos or {}
  state.memos[i] = memo
end

-- An item that was merged into another remembers the same.
---@param batch respool.batch
---@param i integer
---@param follower integer
function M.share(batch, i, follower)
  local memo = M.of(batch, i)
  if memo then set(batch, follower, memo) end
end

-- The places of those that have accepted, as a list and as a set.
---@param batch respool.batch
---@param i integer
---@return table
function M.recall(batch, i)
  local accepted, memo = {}, M.memo(batch, i)
  local list = memo and cbor.decode(memo)
  for _, place in ipairs(type(list) == "table" and list or {}) do
    accepted[#accepted + 1] = place
    accepted[place] = true
  end
  return accepted
end

-- Adds a place.
---@param batch respool.batch
---@param i integer
---@param place string
function M.remember(batch, i, place)
  local list = {}
  for k, name in ipairs(M.recall(batch, i)) do list[k] = name end
  list[#list + 1] = place
  local memo = cbor.encode(list)
  if #memo > M.MOST then
    error("respool.fan_out: names of handlers over 4096 bytes", 0)
  end
  set(batch, i, memo)
end

-- Takes places out that this delivery has added.
---@param batch respool.batch
---@param i integer
---@param places table<string, boolean>
function M.forget(batch, i, places)
  if next(places) == nil then return end
  local list = {}
  for _, name in ipairs(M.recall(batch, i)) do
    if not places[name] then list[#list + 1] = name end
  end
  set(batch, i, #list > 0 and cbor.encode(list) or nil)
end

return M
