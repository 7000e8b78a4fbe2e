-- SPDX-License-Identifier: MIT
--
-- What items push while a handler is at them: kept beside the lot until the
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

local lots = core.lot
local beside, closed = lots.beside, lots.closed
local DONE, RELEASE = outcome.DONE, outcome.RELEASE

local M = {}

---@class respool.handed
---@field i integer the item that pushed
---@field nth integer of all pushes of the lot
---@field row table as push.carried() makes it
---@field accepted string[]? places of the handlers that accepted it thereby

-- Notes a push of item `i`.
---@param lot respool.lot
---@param i integer
---@param row table
function M.add(lot, i, row)
  local state = beside(lot)
  state.pushes, state.pushed = state.pushes or {}, (state.pushed or 0) + 1
  table.insert(state.pushes, { i = i, nth = state.pushed, row = row })
end

local function pushes_of(lot)
  return beside(lot).pushes or {}
end


-- Pushes of a part of a handler: those since there were `from`.

---@param lot respool.lot
---@return integer
function M.count(lot)
  return beside(lot).pushed or 0
end

-- Where those begin.
local function first_since(pushes, from)
  local k = #pushes
  while k > 0 and pushes[k].nth > from do k = k - 1 end
  return k + 1
end

-- The part at this place has accepted the item.
---@param lot respool.lot
---@param i integer
---@param from integer
---@param place string
function M.accept(lot, i, from, place)
  local pushes = pushes_of(lot)
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
---@param lot respool.lot
---@param i integer
---@param from integer
function M.forget(lot, i, from)
  sift(pushes_of(lot), from, function(p)
    return p.i ~= i or p.accepted ~= nil
  end)
end

-- All pushes of an item are forgotten, and that those who made them had
-- accepted it.
local function drop(lot, i)
  local places = {}
  sift(pushes_of(lot), 0, function(p)
    if p.i ~= i then return true end
    for _, place in ipairs(p.accepted or {}) do places[place] = true end
  end)
  memory.forget(lot, i, places)
end


-- What goes along.

-- Notes the words of a mark that carries a memory; `...` as in lots.mark().
---@param lot respool.lot
---@param i integer
function M.note_mark(lot, i, ...)
  local state = beside(lot)
  if memory.of(lot, i) then
    state.marks = state.marks or {}
    state.marks[i] = { ... }
  end
end

local function goes(lot, p)
  if lots.settled(lot, p.i) then return false end
  if lots.verdict(lot, p.i) == DONE then return true end
  local marks = beside(lot).marks
  return p.accepted ~= nil and marks ~= nil and marks[p.i] ~= nil
end

-- The rows of what goes with the marks of a lot, behind those given.
---@param lot respool.lot
---@param rows table[]?
---@return table[]?
function M.gather(lot, rows)
  for _, p in ipairs(pushes_of(lot)) do
    if goes(lot, p) then
      rows = rows or {}
      rows[#rows + 1] = p.row
    end
  end
  return rows
end

-- The same for a transaction that gives items these verdicts; its marks carry
-- all there is to remember.
---@param lot respool.lot
---@param verdicts table<integer, integer> by item
---@return table[]
function M.gather_for(lot, verdicts)
  local rows = {}
  for _, p in ipairs(pushes_of(lot)) do
    local v = verdicts[p.i]
    if v == DONE or v and p.accepted then rows[#rows + 1] = p.row end
  end
  return rows
end


-- Settling apart. An item stands for those that were merged into it.

-- The numbers of an item and of those merged into it.
local function all_of(lot, i)
  local followers = beside(lot).followers
  local list = { i }
  for _, other in ipairs(followers and followers[i] or {}) do
    list[#list + 1] = other[2]
  end
  return list
end

-- Of each item that was merged into another, that one.
local function leaders(lot)
  local leader = {}
  for i in pairs(beside(lot).followers or {}) do
    for _, k in ipairs(all_of(lot, i)) do leader[k] = i end
  end
  return leader
end

-- The items that push, with what goes, in the order of the pushes.
---@return { i: integer, rows: table[] }[]
local function givers(lot)
  local list, by_item, leader = {}, {}, leaders(lot)
  for _, p in ipairs(pushes_of(lot)) do
    local i = leader[p.i] or p.i
    if goes(lot, p) then
      if not by_item[i] then
        by_item[i] = { i = i, rows = {} }
        list[#list + 1] = by_item[i]
      end
      table.insert(by_item[i].rows, p.row)
    end
  end
  return list
end

-- Whether anything goes with the marks of a lot.
---@param lot respool.lot
---@return boolean
function M.is_any(lot)
  return givers(lot)[1] ~= nil
end

-- The words of an item's mark, if it may be made again.
local function mark_of(lot, i)
  if lots.settled(lot, i) then return nil end
  if lots.verdict(lot, i) == DONE then return { DONE } end
  local marks = beside(lot).marks
  return marks and marks[i]
end

local function add_mark(tx, lot, i)
  local mark = mark_of(lot, i)
  if not mark then return true end
  return tx:mark(lot, i, compat.unpack(mark, 1, 8))
end

local function add_push(tx, row)
  return tx:push(row[1], { row[2] }, compat.unpack(row, 3, 11))
end

-- Adds an item, as it is marked, with its pushes.
local function add(tx, lot, giver)
  for _, k in ipairs(all_of(lot, giver.i)) do
    local ok, message, code = add_mark(tx, lot, k)
    if not ok then return nil, message, code end
  end
  for _, row in ipairs(giver.rows) do
    local ok, message, code = add_push(tx, row)
    if not ok then return nil, message, code end
  end
  return true
end

local function add_all(tx, lot, list, from, to)
  for k = from, to do
    local ok, message, code = add(tx, lot, list[k])
    if not ok then return nil, message, code end
  end
  return true
end

-- Settles some of them in one commit.
local function commit(lot, list, from, to)
  local tx, message, code = beside(lot).queue.store.handle:begin()
  if not tx then return nil, message, code end
  local ok
  ok, message, code = add_all(tx, lot, list, from, to)
  if ok then ok, message, code = tx:commit() end
  tx:close()
  if not ok then return nil, message, code end
  beside(lot).settled = true
  hooks.tell_deaths(lot)
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
local function settle_halves(lot, list, from, to, refuse)
  local ok, message, code = commit(lot, list, from, to)
  if ok or closed(lot) then return true end -- closed: by a hook
  if not FAULTS[code] then return nil, message, code end
  if from == to then return refuse(list[from].i, message, code) end
  local middle = math.floor((from + to) / 2)
  ok, message, code = settle_halves(lot, list, from, middle, refuse)
  if not ok or closed(lot) then return ok, message, code end
  return settle_halves(lot, list, middle + 1, to, refuse)
end

-- Marks an item to be released, without its pushes.
local function release(lot, i)
  local marks = beside(lot).marks or {}
  for _, k in ipairs(all_of(lot, i)) do
    drop(lot, k)
    marks[k] = nil
    lots.mark(lot, k, RELEASE, nil, nil, nil, nil, nil, nil,
              memory.of(lot, k))
  end
end

local function is_ordered(queue)
  local config = queue.handle:config()
  return config and config.ordered == 1
end

-- In an ordered queue nothing is settled that comes after what is refused.
local function release_after(lot, i)
  for k = i + 1, #lot do
    if not lots.settled(lot, k) then release(lot, k) end
  end
end

local function tell(err)
  return err.message
end

-- The error of an item whose push was refused, behind what else was wrong.
local function error_of(lot, i, message, code)
  local mark = beside(lot).marks and beside(lot).marks[i]
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
---@param lot respool.lot
---@param message string
---@param code string
---@param fail fun(i: integer, err: table)?
---@return true?, string?, string? what no item is to blame for
function M.apart(lot, message, code, fail)
  local ordered = is_ordered(beside(lot).queue)
  local function refuse(i, m, c)
    local err = error_of(lot, i, m, c)
    release(lot, i)
    if ordered then release_after(lot, i) end
    if fail and c ~= "LEASE_LOST" then fail(i, err) end
    return not ordered or nil
  end
  local list, ok = givers(lot), FAULTS[code]
  if ok then
    ok, message, code = settle_halves(lot, list, 1, #list, refuse)
  end
  if closed(lot) then return true end
  for _, giver in ipairs(givers(lot)) do release(lot, giver.i) end
  if not ok and message then return nil, message, code end
  return true
end

return M
