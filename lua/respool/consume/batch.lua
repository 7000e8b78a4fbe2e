-- SPDX-License-Identifier: MIT
--
-- Lots: the items of one take. The userdata is made by the core; here are
-- its methods. Marks are kept in memory until settle() commits them.

local closing = require "respool.observe.closing"
local core = require "respool.core"
local handover = require "respool.consume.item_pushes"
local hooks = require "respool.observe.hooks"
local item = require "respool.consume.item"
local options = require "respool.support.options"
local outcome = require "respool.support.outcome"
local push = require "respool.produce.push"
local take = require "respool.consume.take"
local verdict = require "respool.consume.decide"
local compat = require "respool.support.compat"

local lots = core.lot
local beside = lots.beside
local NONE, DONE, RELEASE = outcome.NONE, outcome.DONE, outcome.RELEASE

local M = {}

---@class respool.lot
---@field lost integer items whose lease the last settle or extend found lost
local Methods = {}


-- Items.

-- The item at `i`, from 1.
---@param i integer
---@return respool.item
function Methods:item(i)
  lots.settled(self, i) -- raises when there is none
  return item.new(self, i)
end

local function each_group(lot, groups)
  local k = 0
  return function()
    while k < #groups do
      k = k + 1
      local group = groups[k]
      if not lots.settled(lot, group.i) then
        return group.payload, item.new(lot, group.i)
      end
    end
  end
end

-- Iterates over payload and item of what is not settled yet. An item whose
-- payload cannot be decoded is marked dead, reason "undecodable"; one of a
-- payload version that the queue does not take, reason "version".
---@return fun(): any, respool.item
function Methods:each()
  local i, n, state = 0, #self, beside(self)
  if state.groups then return each_group(self, state.groups) end
  local read, new, settled = item.reader(state.queue), item.new, lots.settled
  return function()
    while i < n do
      i = i + 1
      if not (state.settled and settled(self, i)) then
        local payload, problem, reason = read(self, i)
        if payload ~= nil then return payload, new(self, i) end
        verdict.undecodable(state.queue, new(self, i), problem, reason)
      end
    end
  end
end


-- Marks, for whatever is not marked yet.

-- Gives every unmarked item the outcome; one by one only when the queue's
-- `dead_letter` or `on_dead` wants to see each.
function M.mark_rest(lot, o)
  local queue = beside(lot).queue
  if not queue.route and not queue.on_dead then
    local failure = o.error ~= nil and outcome.describe(o.error) or {}
    return lots.mark_rest(lot, o.verdict, o.delay, failure.text, nil,
                          o.group or failure.group, nil, o.box)
  end
  for i = 1, #lot do
    if lots.verdict(lot, i) == NONE then
      verdict.apply(queue, item.new(lot, i), o)
    end
    if lots.closed(lot) then break end -- by a hook
  end
  return true
end

function Methods:done()
  return lots.mark_rest(self, DONE)
end

---@param given { delay: number?, error: any, group: string? }?
function Methods:retry(given)
  return M.mark_rest(self, outcome.retry(given))
end

---@param given { error: any, group: string?, box: string? }?
function Methods:dead(given)
  return M.mark_rest(self, outcome.dead(given))
end

---@param given { error: any }?
function Methods:drop(given)
  return M.mark_rest(self, outcome.drop(given))
end

function Methods:release()
  return lots.mark_rest(self, RELEASE)
end

---@param seconds number
function Methods:snooze(seconds)
  return M.mark_rest(self, outcome.snooze(seconds))
end


-- Settling.

-- The next lot is known to the store before a hook may close it.
local function told(lot, ok, a, b, c)
  local next_lot = ok and a or c
  if next_lot then take.track(next_lot, beside(lot).queue) end
  hooks.tell_deaths(lot)
  if next_lot then hooks.tell_buried(beside(next_lot)) end
  return ok, a, b, c
end

-- Items that were merged into another share its outcome.
local function share_outcomes(lot)
  for i, followers in pairs(beside(lot).followers or {}) do
    local v = lots.verdict(lot, i)
    for _, other in ipairs(v ~= NONE and followers or {}) do
      if lots.verdict(lot, other[2]) == NONE then
        lots.mark(lot, other[2], v)
      end
    end
  end
end

-- Commits the marks; `o` (as a take's form keeps it) takes more in the same
-- commit, `no_wait` leaves the flush to a later commit.
---@return true?, any, any, any as the core answers
function M.settle(lot, rows, o, no_wait)
  share_outcomes(lot)
  local pushes = handover.gather(lot, rows)
  beside(lot).settled = true
  if not o then return told(lot, lots.settle(lot, no_wait, pushes)) end
  local queue = beside(lot).queue
  return told(lot, lots.settle(lot, no_wait, pushes, queue.handle,
                               take.beside(queue), o.items, o.bytes, nil,
                               o.lease))
end

-- After a settle that failed with `message` and `code`: settles the items
-- that push apart from each other, see handover.apart(), then the rest.
---@param lot respool.lot
---@param no_wait boolean
---@param message string
---@param code string
---@param fail fun(i: integer, err: table)?
---@return true?, string?, string?
function M.settle_apart(lot, no_wait, message, code, fail)
  local ok
  ok, message, code = handover.apart(lot, message, code, fail)
  if lots.closed(lot) then return true end -- by a hook
  local settled, m, c = M.settle(lot, nil, nil, no_wait)
  if not ok then return nil, message, code end
  return settled, m, c
end

local SETTLE = {
  of = "lot:settle", take = options.table, push = options.table,
}

-- A lot of nothing has nothing to settle, but more may be taken.
local function settle_nothing(lot, rows, o)
  if rows then compat.misuse("lot:settle: no items to push along with") end
  if not o then return true end
  local next_lot, message, code = take.take(beside(lot).queue, o)
  if not next_lot then return nil, message, code end
  return true, next_lot
end

-- Commits the marks in one commit. `take` takes more in the same commit and
-- returns it as a second value; `push` is a list of { queue =, payload =, ...
-- } pushed in it. Items without a mark stay leased. LEASE_LOST: some leases
-- had run out, `lost` of them; with pushes nothing has happened then, else
-- the other items are settled, and a fourth value is the lot of `take`.
-- CLOSED: the store is closing and takes no more; nothing has happened.
---@param given { take: respool.take_options?, push: table[]? }?
---@return true?, any, string?, respool.lot?
function Methods:settle(given)
  local o = options.read(SETTLE, given, 1)
  local more = o.take and options.read(take.carried_form, o.take, 1)
  local queue = beside(self).queue
  local rows = o.push and push.carried_list(queue.store, o.push)
  if more and closing.refuses(queue.store) then
    return closing.refusal(queue.store)
  end
  if #self == 0 then return settle_nothing(self, rows, more) end
  local ok, a, b, c = M.settle(self, rows, more, false)
  if ok then return true, a end
  return nil, a, b, c
end

-- Marks what a handler has dealt with as done, releases the rest.
function M.conclude(lot)
  share_outcomes(lot)
  local served = beside(lot).served
  for i = 1, served < #lot and served or 0 do
    if lots.verdict(lot, i) == NONE then lots.mark(lot, i, DONE) end
  end
  return lots.mark_rest(lot, served < #lot and RELEASE or DONE)
end

-- Frees the lot as it is.
function M.shut(lot)
  beside(lot).queue.store.lots[lot] = nil
  lots.close(lot)
end

-- Settles what is marked, releases the rest, and closes the lot, whatever
-- comes of it. An item whose push is refused is released as well. A second
-- close does nothing. A lot that is only collected as garbage settles nothing:
-- its lease runs out.
---@return true?, string?, string?
function Methods:close()
  if lots.closed(self) then return true end
  local ok, message, code = true, nil, nil
  if #self > 0 then
    M.conclude(self)
    ok, message, code = M.settle(self)
    if not ok and not lots.closed(self) and handover.is_any(self) then
      M.settle_apart(self, false, message, code)
    end
  end
  M.shut(self)
  return ok, message, code
end

-- The lease ends `seconds` from now; without, the queue's lease from now.
---@param seconds number?
---@return true?, string?, string?
function Methods:extend(seconds)
  if seconds ~= nil then
    options.argument(1, "lot:extend", seconds, options.seconds)
  end
  return lots.extend(self, seconds)
end

-- Renews the lease in the background until the lot is settled or closed, or
-- the queue's max_hold is over.
---@return true?, string?, string?
function Methods:keep()
  return lots.keep(self)
end


local Lot = core.lot_type

function Lot.__index(lot, name)
  if name == "lost" then return lots.lost(lot) end
  return Methods[name]
end

function Lot.__tostring(lot)
  if lots.closed(lot) then return "respool lot (closed)" end
  return ("respool lot of %d from %s"):format(#lot, beside(lot).queue.name)
end

-- Leaving the scope closes the lot; what could not be settled is raised,
-- unless another error is on its way or this is another process.
function Lot.__close(lot, err)
  local ok, message, code = lot:close()
  if not ok and err == nil and code ~= "FORKED" then
    error("respool: " .. message, 0)
  end
end

return M
