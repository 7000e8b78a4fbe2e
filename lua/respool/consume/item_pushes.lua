-- SPDX-License-Identifier: MIT
--
-- The pushes of items (item:push): kept in the state of the batch until the
-- commit that settles the item. They are committed with an item that is done.
-- In a fan-out, the pushes of a handler that has accepted the item are
-- committed with whatever outcome the item gets, since that handler is not
-- called for it again.
--
-- A settle with a push that is refused changes nothing, and says which pushes
-- they were: their items lose all their pushes and get another outcome, and
-- the batch is settled again.

local batch_state = require "respool.consume.batch_state"
local core = require "respool.core"
local memo = require "respool.consume.handler_memo"
local outcome = require "respool.support.outcome"

local batches = core.batch
local NONE, DONE, RELEASE = outcome.NONE, outcome.DONE, outcome.RELEASE

local M = {}

---@class respool.item_push
---@field push respool.carried_push
---@field accepted string[]? places of the handlers that accepted the item with
--- this push

local function pushes_of(batch, i)
  local pushes = batch_state.of(batch).pushes
  return pushes and pushes[i] or {}
end

-- Adds a push of item `i`.
---@param batch respool.batch
---@param i integer
---@param push respool.carried_push
function M.add(batch, i, push)
  local state = batch_state.of(batch)
  state.pushes = state.pushes or {}
  state.pushes[i] = state.pushes[i] or {}
  push.item = i
  table.insert(state.pushes[i], { push = push })
end

-- How many there are of item `i`.
---@param batch respool.batch
---@param i integer
---@return integer
function M.count(batch, i)
  return #pushes_of(batch, i)
end

-- The handler at this place, whose pushes are those behind the first `from`,
-- has accepted the item.
---@param batch respool.batch
---@param i integer
---@param from integer
---@param place string
function M.accept(batch, i, from, place)
  local pushes = pushes_of(batch, i)
  for k = from + 1, #pushes do
    pushes[k].accepted = pushes[k].accepted or {}
    table.insert(pushes[k].accepted, place)
  end
end

-- That handler has not accepted the item: its pushes are removed, but for those
-- of handlers within it that did accept.
---@param batch respool.batch
---@param i integer
---@param from integer
function M.forget(batch, i, from)
  local pushes = pushes_of(batch, i)
  local n = from
  for k = from + 1, #pushes do
    local p = pushes[k]
    pushes[k] = nil
    if p.accepted then
      n = n + 1
      pushes[n] = p
    end
  end
end

-- Removes all pushes of an item, and the acceptance that went with them.
local function drop(batch, i)
  local places = {}
  for _, p in ipairs(pushes_of(batch, i)) do
    for _, place in ipairs(p.accepted or {}) do places[place] = true end
  end
  if M.count(batch, i) > 0 then batch_state.of(batch).pushes[i] = nil end
  memo.remove_accepted(batch, i, places)
end

-- Is the push committed with an outcome of this kind?
local function is_committed(p, kind)
  return kind == DONE or kind ~= nil and kind ~= NONE and p.accepted ~= nil
end

-- Adds the pushes of item `i` that are committed with this outcome.
local function add_carried(carried, batch, i, kind)
  for _, p in ipairs(pushes_of(batch, i)) do
    if is_committed(p, kind) then carried[#carried + 1] = p.push end
  end
end

-- The pushes to be committed with the marks of a batch, behind `carried`.
---@param batch respool.batch
---@param carried respool.carried_push[]?
---@return table[]?
function M.gather(batch, carried)
  local pushes = batch_state.of(batch).pushes
  if not pushes or next(pushes) == nil then return carried end
  carried = carried or {}
  for i = 1, #batch do
    if pushes[i] and not batches.settled(batch, i) then
      add_carried(carried, batch, i, batches.kind(batch, i))
    end
  end
  return carried[1] and carried or nil
end

-- The pushes to be committed with these outcomes in a transaction.
---@param batch respool.batch
---@param kinds table<integer, integer> by item
---@return table[]
function M.gather_for(batch, kinds)
  local carried = {}
  for i = 1, #batch do add_carried(carried, batch, i, kinds[i]) end
  return carried
end


-- Refused pushes.

-- Releases an item, and those merged into it, without pushes.
local function release(batch, i)
  drop(batch, i)
  batch_state.mark(batch, i, { kind = RELEASE })
  for _, it in ipairs(batch_state.followers(batch, i)) do
    drop(batch, it[2])
    batch_state.mark(batch, it[2], { kind = RELEASE })
  end
end

local function is_ordered(queue)
  local config = queue.handle:config()
  return config and config.ordered == 1
end

-- Releases every item from `i` on: in an ordered queue nothing is settled that
-- comes after a refused push.
local function release_from(batch, i)
  for k = i, #batch do
    if not batches.settled(batch, k) then release(batch, k) end
  end
end

local function tell(err)
  return err.message
end

-- The error of an item whose push was refused, behind the error it had before.
local function error_of(batch, i, refusal)
  local marks = batch_state.of(batch).marks
  local before = marks and marks[i] and marks[i].error
  return setmetatable({
    message = ("%sitem:push: %s"):format(before and before .. "; " or "",
                                         refusal.message),
    group = refusal.code, code = refusal.code,
  }, { __tostring = tell })
end

-- How many of these pushes there are of each item.
local function count_by_item(list, item_of)
  local n = {}
  for _, entry in ipairs(list) do
    local i = item_of(entry)
    n[i] = (n[i] or 0) + 1
  end
  return n
end

-- The items that have failed by the refused pushes, in their order, each with
-- its refusal. An item that finds a queue full behind pushes of an item that
-- has failed may find room without these: it is tried again. Nil when a push of
-- the batch's own was refused.
local function failed_items(batch, carried)
  local refused = batches.refused(batch)
  local function owner(refusal)
    return carried[refusal.push].item or 0
  end
  local tried = count_by_item(carried, function(push) return push.item or 0 end)
  local failed = count_by_item(refused, owner)
  if failed[0] then return nil end
  local list, seen, in_doubt = {}, {}, false
  for _, refusal in ipairs(refused) do
    local i = batch_state.leader(batch, owner(refusal))
    if not seen[i] and not (in_doubt and refusal.code == "FULL") then
      list[#list + 1] = { i = i, refusal = refusal }
    end
    seen[i] = true
    in_doubt = in_doubt or failed[owner(refusal)] < tried[owner(refusal)]
  end
  return list[1] and list or nil
end

-- After a settle of `carried` that was refused: releases the items whose pushes
-- were refused and calls fail(i, err), if given, for each, which may mark it
-- otherwise. False when the settle failed for another reason.
---@param batch respool.batch
---@param carried respool.carried_push[]?
---@param fail fun(i: integer, err: table)?
---@return boolean
function M.settle_aside(batch, carried, fail)
  local list = carried and failed_items(batch, carried)
  if not list then return false end
  local ordered = is_ordered(batch_state.queue(batch))
  for n = #list, ordered and 2 or math.huge, -1 do list[n] = nil end
  for _, entry in ipairs(list) do
    entry.err = error_of(batch, entry.i, entry.refusal)
    release(batch, entry.i)
    if ordered then release_from(batch, entry.i + 1) end
  end
  for _, entry in ipairs(fail and list or {}) do fail(entry.i, entry.err) end
  return true
end

-- Releases all items that still have pushes.
---@param batch respool.batch
function M.release_all(batch)
  for i in pairs(batch_state.of(batch).pushes or {}) do
    if not batches.settled(batch, i) then
      release(batch, batch_state.leader(batch, i))
    end
  end
end

return M
