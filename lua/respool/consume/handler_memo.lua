-- SPDX-License-Identifier: MIT
--
-- What an item is to remember if it goes on: which handlers of a fan-out have
-- accepted it, by their places. It lies beside the lot, by the item's number,
-- until a mark takes it along; then it is the item's memo, kept by processes
-- that end, by death and by replay.

local core = require "respool.core"

local lots = core.lot
local cbor = core.cbor

local M = {}

M.MOST = 4096 -- bytes, as in respool.h

-- Bytes for the mark of an item to which this delivery has added something.
---@param lot respool.lot
---@param i integer
---@return string?
function M.of(lot, i)
  local memos = lots.beside(lot).memos
  return memos and memos[i]
end

-- The same, else what an earlier delivery left.
---@param lot respool.lot
---@param i integer
---@return string?
function M.memo(lot, i)
  return M.of(lot, i) or lots.field(lot, i, lots.fields.memo)
end

local function set(lot, i, memo)
  local state = lots.beside(lot)
  state.memos = state.memos or {}
  state.memos[i] = memo
end

-- An item that was merged into another remembers the same.
---@param lot respool.lot
---@param i integer
---@param follower integer
function M.share(lot, i, follower)
  local memo = M.of(lot, i)
  if memo then set(lot, follower, memo) end
end

-- The places of those that have accepted, as a list and as a set.
---@param lot respool.lot
---@param i integer
---@return table
function M.recall(lot, i)
  local accepted, memo = {}, M.memo(lot, i)
  local list = memo and cbor.decode(memo)
  for _, place in ipairs(type(list) == "table" and list or {}) do
    accepted[#accepted + 1] = place
    accepted[place] = true
  end
  return accepted
end

-- Adds a place.
---@param lot respool.lot
---@param i integer
---@param place string
function M.remember(lot, i, place)
  local list = {}
  for k, name in ipairs(M.recall(lot, i)) do list[k] = name end
  list[#list + 1] = place
  local memo = cbor.encode(list)
  if #memo > M.MOST then
    error("respool.fan_out: names of handlers over 4096 bytes", 0)
  end
  set(lot, i, memo)
end

-- Takes places out that this delivery has added.
---@param lot respool.lot
---@param i integer
---@param places table<string, boolean>
function M.forget(lot, i, places)
  if next(places) == nil then return end
  local list = {}
  for _, name in ipairs(M.recall(lot, i)) do
    if not places[name] then list[#list + 1] = name end
  end
  set(lot, i, #list > 0 and cbor.encode(list) or nil)
end

return M
