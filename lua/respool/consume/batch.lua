-- SPDX-License-Identifier: MIT
--
-- Batches: the items of one take. The userdata is made by the core; here are
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
local kind = require "respool.consume.decide"
local compat = require "respool.support.compat"

local batches = core.batch
local beside = batches.beside
local NONE, DONE, RELEASE = outcome.NONE, outcome.DONE, outcome.RELEASE

local M = {}

---@class respool.batch
---@field lost integer items whose lease the last settle or extend found lost
local Methods = {}


-- Items.

-- The item at `i`, from 1.
---@param i integer
---@return respool.item
function Methods:item(i)
  batches.settled(self, i) -- raises when there is none
  return item.new(self, i)
end

local function each_group(batch, groups)
  local k = 0
  return function()
    while k < #groups do
      k = k + 1
      local group = groups[k]
      if not batches.settled(batch, group.i) then
        return group.payload, item.new(batch, group.i)
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
  local read, new, settled = item.reader(state.queue), item.new, batches.settled
  return function()
    while i < n do
      i = i + 1
      if not (state.settled and settled(self, i)) then
        local payload, problem, reason = read(self, i)
        if payload ~= nil then return payload, new(self, i) end
        kind.undecodable(state.queue, new(self, i), problem, reason)
      end
    end
  end
end


-- Marks, for whatever is not marked yet.

-- Gives every unmarked item the outcome; one by one only when the queue's
-- `dead_letter` is a function, which sees each.
function M.mark_rest(batch, o)
  local queue = beside(batch).queue
  if not queue.route then
    local failure = o.error ~= nil and outcome.describe(o.error) or {}
    return batches.mark_rest(batch, o.kind, o.delay, failure.text, nil,
                          o.group or failure.group, nil, o.dlq)
  end
  for i = 1, #batch do
    if batches.kind(batch, i) == NONE then
      kind.apply(queue, item.new(batch, i), o)
    end
    if batches.closed(batch) then break end -- by a hook
  end
  return true
end

function Methods:done()
  return batches.mark_rest(self, DONE)
end

---@param given { delay: number?, error: any, group: string? }?
function Methods:retry(given)
  return M.mark_rest(self, outcome.retry(given))
end

---@param given { error: any, group: string?, dlq: string? }?
function Methods:dead(given)
  return M.mark_rest(self, outcome.dead(given))
end

---@param given { error: any }?
function Methods:drop(given)
  return M.mark_rest(self, outcome.drop(given))
end

function Methods:release()
  return batches.mark_rest(self, RELEASE)
end

---@param seconds number
function Methods:snooze(seconds)
  return M.mark_rest(self, outcome.snooze(seconds))
end


-- Settling.

-- The next batch is known to the store before a hook may close it.
local function told(batch, ok, a, b, c)
  local next_batch = ok and a or c
  if next_batch then take.track(next_batch, beside(batch).queue) end
  hooks.tell_dead(beside(batch).queue.store)
  return ok, a, b, c
end

-- Items that were merged into another share its outcome.
local function share_outcomes(batch)
  for i, followers in pairs(beside(batch).followers or {}) do
    local v = batches.kind(batch, i)
    for _, other in ipairs(v ~= NONE and followers or {}) do
      if batches.kind(batch, other[2]) == NONE then
        batches.mark(batch, other[2], v)
      end
    end
  end
end

-- Commits the marks; `o` (as a take's form keeps it) takes more in the same
-- commit, `no_wait` leaves the flush to a later commit.
---@return true?, any, any, any as the core answers
function M.settle(batch, rows, o, no_wait)
  share_outcomes(batch)
  local pushes = handover.gather(batch, rows)
  beside(batch).settled = true
  if not o then return told(batch, batches.settle(batch, no_wait, pushes)) end
  local queue = beside(batch).queue
  return told(batch, batches.settle(batch, no_wait, pushes, queue.handle,
                               take.beside(queue), o.limit, o.bytes, nil,
                               o.lease))
end

-- After a settle that failed with `message` and `code`: settles the items
-- that push apart from each other, see handover.apart(), then the rest.
---@param batch respool.batch
---@param no_wait boolean
---@param message string
---@param code string
---@param fail fun(i: integer, err: table)?
---@return true?, string?, string?
function M.settle_apart(batch, no_wait, message, code, fail)
  local ok
  ok, message, code = handover.apart(batch, message, code, fail)
  if batches.closed(batch) then return true end -- by a hook
  local settled, m, c = M.settle(batch, nil, nil, no_wait)
  if not ok then return nil, message, code end
  return settled, m, c
end

local SETTLE = {
  of = "batch:settle", take = options.table, push = options.table,
}

-- A batch of nothing has nothing to settle, but more may be taken.
local function settle_nothing(batch, rows, o)
  if rows then compat.misuse("batch:settle: no items to push along with") end
  if not o then return true end
  local next_batch, message, code = take.take(beside(batch).queue, o)
  if not next_batch then return nil, message, code end
  return true, next_batch
end

-- Commits the marks in one commit. `take` takes more in the same commit and
-- returns it as a second value; `push` is a list of { queue =, payload =, ...
-- } pushed in it. Items without a mark stay leased. LEASE_LOST: some leases
-- had run out, `lost` of them; with pushes nothing has happened then, else
-- the other items are settled, and a fourth value is the batch of `take`.
-- CLOSED: the store is closing and takes no more; nothing has happened.
---@param given { take: respool.take_options?, push: table[]? }?
---@return true?, any, string?, respool.batch?
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
function M.conclude(batch)
  share_outcomes(batch)
  local served = beside(batch).served
  for i = 1, served < #batch and served or 0 do
    if batches.kind(batch, i) == NONE then batches.mark(batch, i, DONE) end
  end
  return batches.mark_rest(batch, served < #batch and RELEASE or DONE)
end

-- Frees the batch as it is.
function M.shut(batch)
  beside(batch).queue.store.batches[batch] = nil
  batches.close(batch)
end

-- Settles what is marked, releases the rest, and closes the batch, whatever
-- comes of it. An item whose push is refused is released as well. A second
-- close does nothing. A batch that is only collected as garbage settles
-- nothing: its lease runs out.
---@return true?, string?, string?
function Methods:close()
  if batches.closed(self) then return true end
  local ok, message, code = true, nil, nil
  if #self > 0 then
    M.conclude(self)
    ok, message, code = M.settle(self)
    if not ok and not batches.closed(self) and handover.is_any(self) then
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
    options.argument(1, "batch:extend", seconds, options.seconds)
  end
  return batches.extend(self, seconds)
end

-- Renews the lease in the background until the batch is settled or closed, or
-- the queue's max_lease is over.
---@return true?, string?, string?
function Methods:keep()
  return batches.keep(self)
end


local Lot = core.batch_type

function Lot.__index(batch, name)
  if name == "lost" then return batches.lost(batch) end
  return Methods[name]
end

function Lot.__tostring(batch)
  if batches.closed(batch) then return "respool batch (closed)" end
  return ("respool batch of %d from %s"):format(#batch,
    beside(batch).queue.name)
end

-- Leaving the scope closes the batch; what could not be settled is raised,
-- unless another error is on its way or this is another process.
function Lot.__close(batch, err)
  local ok, message, code = batch:close()
  if not ok and err == nil and code ~= "FORKED" then
    error("respool: " .. message, 0)
  end
end

return M
