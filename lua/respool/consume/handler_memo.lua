-- SPDX-License-Identifier: MIT
--
-- Handler memo: which handlers of a fan-out have accepted an item, and which
-- have refused it for good, by their places. It is kept in the state of the
-- batch until the mark of the item stores it; then it is the item's memo,
-- which survives the process, death and replay. A refusal counts until the
-- item dies: replayed, it is offered to that handler again.

local batch_state = require "respool.consume.batch_state"
local core = require "respool.core"
local text = require "respool.support.text"

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

-- The entries of the memo: the place of one that has accepted, or { place,
-- result } where it returned one; for one that has refused { place, life, text,
-- group, dlq, explicit }.
local function entries(batch, i)
  local memo = M.memo(batch, i)
  local list = memo and cbor.decode(memo)
  return type(list) == "table" and list or {}
end

-- The identity of an item until it dies: a replay gives it another.
local function life(batch, i)
  local f = batches.fields
  return ("%d %.0f"):format(batches.field(batch, i, f.id),
                            batches.field(batch, i, f.pushed_at) * 1000)
end

-- Stores an entry with those there are; false when there is no room.
local function add(batch, i, entry)
  local list = {}
  for k, other in ipairs(entries(batch, i)) do list[k] = other end
  list[#list + 1] = entry
  local memo = cbor.encode(list)
  if #memo > M.MOST then return false end
  set(batch, i, memo)
  return true
end

-- The place of a handler that has accepted; nil of one that has refused.
local function accepted_place(entry)
  if type(entry) == "string" then return entry end
  return entry.result and entry.place
end

-- The results of the handlers that have accepted, in CBOR, by their places;
-- true where a handler returned nothing.
---@param batch respool.batch
---@param i integer
---@return table<string, string|true>
function M.accepted_by(batch, i)
  local accepted = {}
  for _, entry in ipairs(entries(batch, i)) do
    local place = accepted_place(entry)
    if place then accepted[place] = entry.result or true end
  end
  return accepted
end

-- The handler at this place has accepted.
---@param batch respool.batch
---@param i integer
---@param place string
function M.add_accepted(batch, i, place)
  if not add(batch, i, place) then
    error("respool.fan_out: names of handlers over 4096 bytes", 0)
  end
end

-- The handler at this place, which has accepted, returned `result`. False when
-- there is no room for it.
---@param batch respool.batch
---@param i integer
---@param place string
---@param result string CBOR
---@return boolean
function M.add_result(batch, i, place, result)
  local list = {}
  for k, entry in ipairs(entries(batch, i)) do
    list[k] = entry == place and { place = place, result = result } or entry
  end
  local memo = cbor.encode(list)
  if #memo > M.MOST / 2 then return false end
  set(batch, i, memo)
  return true
end

---@class respool.refusal
---@field text string
---@field group string?
---@field dlq string?
---@field explicit boolean an outcome, no error

-- Why the handlers that have refused for good did so, by their places.
---@param batch respool.batch
---@param i integer
---@return table<string, respool.refusal>
function M.refused_by(batch, i)
  local refused, now = {}, nil
  for _, entry in ipairs(entries(batch, i)) do
    now = now or life(batch, i)
    if type(entry) == "table" and entry.life == now then
      refused[entry.place] = entry
    end
  end
  return refused
end

local TEXT_MOST = 200 -- bytes of a refusal that is remembered

-- The handler at this place has refused for good. One for which there is no
-- room is asked again.
---@param batch respool.batch
---@param i integer
---@param place string
---@param refusal respool.refusal
function M.add_refused(batch, i, place, refusal)
  add(batch, i, {
    place = place, life = life(batch, i), group = refusal.group,
    dlq = refusal.dlq, explicit = refusal.explicit,
    text = text.cut(refusal.text, TEXT_MOST),
  })
end

-- The handlers at these places, of this delivery, have not accepted after all.
---@param batch respool.batch
---@param i integer
---@param places table<string, boolean>
function M.remove_accepted(batch, i, places)
  if next(places) == nil then return end
  local list = {}
  for _, entry in ipairs(entries(batch, i)) do
    if not places[accepted_place(entry)] then list[#list + 1] = entry end
  end
  set(batch, i, #list > 0 and cbor.encode(list) or nil)
end

return M
