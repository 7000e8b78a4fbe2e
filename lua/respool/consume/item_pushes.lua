-- SPDX-License-Identifier: MIT
--
-- What items push while a handler is at them: kept beside the batch until the
-- commit that settles the item takes it to its queue. It goes with an item
-- that is done. What a handler of a fan-out pushed goes as soon as that one
-- has accepted the item, whatever else becomes of it, if the mark carries the
-- memory of this: that handler is not called again.
--
-- A settle is refused as a whole when one push is. The items that push are
-- then settled apart from the others, to find those whose pushes they are.

local compat = require "respool.support.compat"
local core = require "respool.core"
local hooks = require "respool.observe.hooks"
local memory = require "respool.consume.handler_memo"
local outcome = require "respool.support.outcome"

local batches = core.batch
local beside, closed = batches.beside, batches.closed
local DONE, RELEASE = outcome.DONE, outcome.RELEASE

local M = {}

---@class respool.handed
---@field i integer the item that pushed
---@field nth integer of all pushes of the batch
---@field row table as push.carried() makes it
---@field accepted string[]? places of the handlers that accepted it thereby

-- Notes a push of item `i`.
---@param batch respool.batch
---@param i integer
---@param row table
function M.add(batch, i, row)
  local state = beside(batch)
  state.pushes, state.pushed = state.pushes or {}, (state.pushed or 0) + 1
  table.insert(state.pushes, { i = i, nth = state.pushed, row = row })
end

local function pushes_of(batch)
  return beside(batch).pushes or {}
end


-- Pushes of a part of a handler: those since there were `from`.

---@param batch respool.batch
---@return integer
function M.count(batch)
  return beside(batch).pushed or 0
end

-- Where those begin.
local function first_since(pushes, from)
  local k = #pushes
  while k > 0 and pushes[k].nth > from do k = k - 1 end
  return k + 1
end

-- The part at this place has accepted the item.
---@param batch respool.batch
---@param i integer
---@param from integer
---@param place string
function M.accept(batch, i, from, place)
  local pushes = pushes_of(batch)
  for k = first_since(pushes, from), #pushes do
    local p = pushes[k]
    if p.i == i then
      p.accepted = p.accepted or {}
      table.insert(p.accepted, place)
    end
  end
end

-- Of the pushes since `from`, keeps those for which wanted(p) is true.
local function sift(pushes, from, wanted)
  local first, last = first_since(pushes, from), #pushes
  local n = first - 1
  for k = first, last do
    local p = pushes[k]
    if wanted(p) then
      n = n + 1
      pushes[n] = p
    end
  end
  for k = last, n + 1, -1 do pushes[k] = nil end
end

-- That part has not accepted the item: its pushes are forgotten but for those
-- of parts of it that did.
---@param batch respool.batch
---@param i integer
---@param from integer
function M.forget(batch, i, from)
  sift(pushes_of(batch), from, function(p)
    return p.i ~= i or p.accepted ~= nil
  end)
end

-- All pushes of an item are forgotten, and that those who made them had
-- accepted it.
local function drop(batch, i)
  local places = {}
  sift(pushes_of(batch), 0, function(p)
    if p.i ~= i then return true end
    for _, place in ipairs(p.accepted or {}) do places[place] = true end
  end)
  memory.forget(batch, i, places)
end


-- What goes along.

-- Notes the words of a mark that carries a memory; `...` as in batches.mark().
---@param batch respool.batch
---@param i integer
function M.note_mark(batch, i, ...)
  local state = beside(batch)
  if memory.of(batch, i) then
    state.marks = state.marks or {}
    state.marks[i] = { ... }
  end
end

local function goes(batch, p)
  if batches.settled(batch, p.i) then return false end
  if batches.kind(batch, p.i) == DONE then return true end
  local marks = beside(batch).marks
  return p.accepted ~= nil and marks ~= nil and marks[p.i] ~= nil
end

-- The rows of what goes with the marks of a batch, behind those given.
---@param batch respool.batch
---@param rows table[]?
---@return table[]?
function M.gather(batch, rows)
  for _, p in ipairs(pushes_of(batch)) do
    if goes(batch, p) then
      rows = rows or {}
      rows[#rows + 1] = p.row
    end
  end
  return rows
end

-- The same for a transaction that gives items these outcomes; its marks carry
-- all there is to remember.
---@param batch respool.batch
---@param kinds table<integer, integer> by item
---@return table[]
function M.gather_for(batch, kinds)
  local rows = {}
  for _, p in ipairs(pushes_of(batch)) do
    local v = kinds[p.i]
    if v == DONE or v and p.accepted then rows[#rows + 1] = p.row end
  end
  return rows
end


-- Settling apart. An item stands for those that were merged into it.

-- The numbers of an item and of those merged into it.
local function all_of(batch, i)
  local followers = beside(batch).followers
  local list = { i }
  for _, other in ipairs(followers and followers[i] or {}) do
    list[#list + 1] = other[2]
  end
  return list
end

-- Of each item that was merged into another, that one.
local function leaders(batch)
  local leader = {}
  for i in pairs(beside(batch).followers or {}) do
    for _, k in ipairs(all_of(batch, i)) do leader[k] = i end
  end
  return leader
end

-- The items that push, with what goes, in the order of the pushes.
---@return { i: integer, rows: table[] }[]
local function givers(batch)
  local list, by_item, leader = {}, {}, leaders(batch)
  for _, p in ipairs(pushes_of(batch)) do
    local i = leader[p.i] or p.i
    if goes(batch, p) then
      if not by_item[i] then
        by_item[i] = { i = i, rows = {} }
        list[#list + 1] = by_item[i]
      end
      table.insert(by_item[i].rows, p.row)
    end
  end
  return list
end

-- Whether anything goes with the marks of a batch.
---@param batch respool.batch
---@return boolean
function M.is_any(batch)
  return givers(batch)[1] ~= nil
end

-- The words of an item's mark, if it may be made again.
local function mark_of(batch, i)
  if batches.settled(batch, i) then return nil end
  if batches.kind(batch, i) == DONE then return { DONE } end
  local marks = beside(batch).marks
  return marks and marks[i]
end

local function add_mark(tx, batch, i)
  local mark = mark_of(batch, i)
  if not mark then return true end
  return tx:mark(batch, i, compat.unpack(mark, 1, 8))
end

local function add_push(tx, row)
  return tx:push(row[1], { row[2] }, compat.unpack(row, 3, 12))
end

-- Adds an item, as it is marked, with its pushes.
local function add(tx, batch, giver)
  for _, k in ipairs(all_of(batch, giver.i)) do
    local ok, message, code = add_mark(tx, batch, k)
    if not ok then return nil, message, code end
  end
  for _, row in ipairs(giver.rows) do
    local ok, message, code = add_push(tx, row)
    if not ok then return nil, message, code end
  end
  return true
end

local function add_all(tx, batch, list, from, to)
  for k = from, to do
    local ok, message, code = add(tx, batch, list[k])
    if not ok then return nil, message, code end
  end
  return true
end

-- Settles some of them in one commit.
local function commit(batch, list, from, to)
  local tx, message, code = beside(batch).queue.store.handle:begin()
  if not tx then return nil, message, code end
  local ok
  ok, message, code = add_all(tx, batch, list, from, to)
  if ok then ok, message, code = tx:commit() end
  tx:close()
  if not ok then return nil, message, code end
  beside(batch).settled = true
  hooks.tell_dead(beside(batch).queue.store)
  return true
end

-- What a settle says that is the fault of one of its items or pushes; all
-- else would be said of any.
local FAULTS = {
  EXISTS = true, FULL = true, TOO_LARGE = true, NOT_FOUND = true,
  LEASE_LOST = true,
}

-- Settles what it can in halves of what was refused, so that one push that is
-- refused costs few commits. refuse(i, message, code) is called for an item
-- that is refused alone; when that is false, or another error comes, it ends.
---@return true?, string?, string?
local function settle_halves(batch, list, from, to, refuse)
  local ok, message, code = commit(batch, list, from, to)
  if ok or closed(batch) then return true end -- closed: by a hook
  if not FAULTS[code] then return nil, message, code end
  if from == to then return refuse(list[from].i, message, code) end
  local middle = math.floor((from + to) / 2)
  ok, message, code = settle_halves(batch, list, from, middle, refuse)
  if not ok or closed(batch) then return ok, message, code end
  return settle_halves(batch, list, middle + 1, to, refuse)
end

-- Marks an item to be released, without its pushes.
local function release(batch, i)
  local marks = beside(batch).marks or {}
  for _, k in ipairs(all_of(batch, i)) do
    drop(batch, k)
    marks[k] = nil
    batches.mark(batch, k, RELEASE, nil, nil, nil, nil, nil, nil,
              memory.of(batch, k))
  end
end

local function is_ordered(queue)
  local config = queue.handle:config()
  return config and config.ordered == 1
end

-- In an ordered queue nothing is settled that comes after what is refused.
local function release_after(batch, i)
  for k = i + 1, #batch do
    if not batches.settled(batch, k) then release(batch, k) end
  end
end

local function tell(err)
  return err.message
end

-- The error of an item whose push was refused, behind what else was wrong.
local function error_of(batch, i, message, code)
  local mark = beside(batch).marks and beside(batch).marks[i]
  local before = mark and mark[3] and mark[3] .. "; " or ""
  return setmetatable({
    message = ("%sitem:push: %s"):format(before, message),
    group = code, code = code,
  }, { __tostring = tell })
end

-- After a settle that was refused with `message` and `code`: settles the
-- items that push if one of them may be to blame, and calls fail(i, err) for
-- each whose own push is refused; without `fail`, and when its lease is lost
-- or something else is wrong, such an item is released. What is left is
-- marked, to be settled without pushes.
---@param batch respool.batch
---@param message string
---@param code string
---@param fail fun(i: integer, err: table)?
---@return true?, string?, string? what no item is to blame for
function M.apart(batch, message, code, fail)
  local ordered = is_ordered(beside(batch).queue)
  local function refuse(i, m, c)
    local err = error_of(batch, i, m, c)
    release(batch, i)
    if ordered then release_after(batch, i) end
    if fail and c ~= "LEASE_LOST" then fail(i, err) end
    return not ordered or nil
  end
  local list, ok = givers(batch), FAULTS[code]
  if ok then
    ok, message, code = settle_halves(batch, list, 1, #list, refuse)
  end
  if closed(batch) then return true end
  for _, giver in ipairs(givers(batch)) do release(batch, giver.i) end
  if not ok and message then return nil, message, code end
  return true
end

return M
