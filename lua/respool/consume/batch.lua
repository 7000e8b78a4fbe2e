-- SPDX-License-Identifier: MIT
--
-- Batches: the items of one take. The userdata is made by the core; here are
-- its methods. Marks are kept in memory until settle() commits them.

local batch_state = require "respool.consume.batch_state"
local closing = require "respool.observe.closing"
local compat = require "respool.support.compat"
local core = require "respool.core"
local decide = require "respool.consume.decide"
local fields = require "respool.support.fields"
local hooks = require "respool.observe.hooks"
local item = require "respool.consume.item"
local item_pushes = require "respool.consume.item_pushes"
local options = require "respool.support.options"
local progress = require "respool.consume.progress"
local outcome = require "respool.support.outcome"
local push = require "respool.produce.push"
local take = require "respool.consume.take"
local tracing = require "respool.observe.tracing"

local batches = core.batch
local NONE, DONE, RELEASE = outcome.NONE, outcome.DONE, outcome.RELEASE

local M = {}

-- A sequence of items: `batch[1]`, `#batch`, and in Lua 5.3 and later ipairs,
-- which takes tables only before that: there each() is the way.
---@class respool.batch
---@field lost integer items whose lease the last settle or extend found lost
---@field [integer] respool.item
local Methods = {}


-- Items.

-- The item at `i`, from 1; raises when there is none.
---@param i integer
---@return respool.item
function Methods:item(i)
  batches.settled(self, i)
  return item.at(self, i)
end

local function each_group(batch, groups)
  local k = 0
  return function()
    while k < #groups do
      k = k + 1
      local group = groups[k]
      if not batches.settled(batch, group.i) then
        return group.payload, item.new(batch, group.i, group.payload)
      end
    end
  end
end

-- Iterates over payload and item of the items that are not settled yet. An item
-- whose payload cannot be decoded is marked dead, with the reason
-- "undecodable"; an item of a payload version that the queue does not take,
-- with the reason "version".
---@return fun(): any, respool.item
function Methods:each()
  local i, n, state = 0, #self, batch_state.of(self)
  if state.groups then return each_group(self, state.groups) end
  local read = item.reader(state.queue)
  return function()
    while i < n do
      i = i + 1
      if not batches.settled(self, i) then
        local payload, problem, reason = read(self, i)
        local it = item.new(self, i, payload)
        if payload ~= nil then return payload, it end
        decide.undecodable(state.queue, it, problem, reason)
      end
    end
  end
end


-- Marks: the last one given to an item counts, whether the batch or the item
-- gave it.

-- Gives an outcome to every item for which wanted(i) is true, one by one, as
-- the queue's `dead_letter` is a function that sees each.
local function apply_one_by_one(batch, queue, o, wanted)
  for i = 1, #batch do
    if closing.is_immediate(queue.store) then break end -- by `dead_letter`
    if not batches.settled(batch, i) and wanted(i) then
      decide.apply(queue, item.new(batch, i), o)
    end
  end
  return true
end

local function any()
  return true
end

-- Gives an outcome to every item that is not settled.
local function mark_all(batch, o)
  local queue = batch_state.queue(batch)
  if queue.route then return apply_one_by_one(batch, queue, o, any) end
  return batch_state.mark_all(batch, decide.mark_of(queue, o))
end

-- Gives an outcome to every item that has no mark yet.
---@param batch respool.batch
---@param o respool.outcome
---@return true?, string?, string?
---@nodiscard
function M.mark_rest(batch, o)
  local queue = batch_state.queue(batch)
  if not queue.route then
    return batch_state.mark_rest(batch, decide.mark_of(queue, o))
  end
  return apply_one_by_one(batch, queue, o, function(i)
    return batches.kind(batch, i) == NONE
  end)
end

-- All items are done.
function Methods:done()
  return batch_state.mark_all(self, { kind = DONE })
end

-- All items failed and are tried again, after `delay` seconds or by policy.
---@param given { delay: number?, error: any, group: string|integer? }?
function Methods:retry(given)
  return mark_all(self, outcome.retry(given))
end

-- All items failed for good: they become dead letters.
---@param given { error: any, group: string|integer?, dlq: string? }?
function Methods:dead(given)
  return mark_all(self, outcome.dead(given))
end

-- All items failed for good and are removed, without dead letters.
---@param given { error: any }?
function Methods:drop(given)
  return mark_all(self, outcome.drop(given))
end

-- All items are ready again at once; no attempt is spent.
function Methods:release()
  return mark_all(self, outcome.release())
end

-- All items are scheduled again after `seconds`; no attempt is spent.
---@param seconds number
function Methods:snooze(seconds)
  return mark_all(self, outcome.snooze(seconds))
end

-- All items are ready again when the queue, which is held for `seconds`, goes
-- on.
---@param seconds respool.seconds
---@param reason string?
function Methods:hold(seconds, reason)
  return mark_all(self, outcome.hold(seconds, reason))
end


-- Settling.

-- Items that were merged into another share its outcome.
local function share_outcomes(batch)
  for i, followers in pairs(batch_state.of(batch).followers or {}) do
    local kind = batches.kind(batch, i)
    for _, other in ipairs(kind ~= NONE and followers or {}) do
      if batches.kind(batch, other[2]) == NONE then
        batches.mark(batch, other[2], kind)
      end
    end
  end
end

-- The batch that was taken in the same commit is known to the store before a
-- hook may close it.
local function after_settle(batch, ok, a, b, c)
  local next_batch = ok and a or c
  local queue = batch_state.queue(batch)
  if next_batch then take.track(next_batch, queue) end
  progress.forget(batch)
  hooks.drain(queue.store)
  return ok, a, b, c
end

local function settle_untraced(batch, carried, o, no_wait)
  if not o then
    return after_settle(batch, batches.settle(batch, no_wait, carried))
  end
  local queue = batch_state.queue(batch)
  return after_settle(batch, batches.settle(
    batch, no_wait, carried, queue.handle, batch_state.new(queue), o.limit,
    o.bytes, nil, o.lease, take.worker(queue)))
end

-- The same for a tracer, which hears of the take as well.
local function settle_once(batch, carried, o, no_wait)
  local queue = batch_state.queue(batch)
  local store = queue.store
  if not store.tracer then
    return settle_untraced(batch, carried, o, no_wait)
  end
  local trace, taking = tracing.settle(queue, batch), nil
  if o then
    taking = tracing.start(store, { operation = "take", queue = queue.name })
  end
  local ok, a, b, c = settle_untraced(batch, carried, o, no_wait)
  tracing.finish(store, trace, {
    error = not ok and a or nil, code = not ok and b or nil,
  })
  if o then tracing.took(store, taking, ok and a or c, a, b) end
  return ok, a, b, c
end

-- Commits the marks with the pushes of the items, and `carried` of the batch's
-- own; `o` (as a take's form keeps it) takes more in the same commit, `no_wait`
-- leaves the flush to a later commit.
---@return true?, any, any, any as the core answers
function M.settle(batch, carried, o, no_wait)
  share_outcomes(batch)
  return settle_once(batch, item_pushes.gather(batch, carried), o, no_wait)
end

-- How often items whose pushes are refused are set aside before all items that
-- push are released.
local ROUNDS = 5

-- The same; items whose pushes are refused are settled without them: released,
-- or as fail(i, err) marks them. The last two values are the first refusal.
-- When it fails otherwise, all items that push are released.
---@param batch respool.batch
---@param o table?
---@param no_wait boolean
---@param fail fun(i: integer, err: table)?
---@return true?, any, any, any, string?, string?
function M.settle_items(batch, o, no_wait, fail)
  local refusal, refusal_code
  for round = 1, ROUNDS + 2 do
    share_outcomes(batch)
    if round > ROUNDS then item_pushes.release_all(batch) end
    local carried = item_pushes.gather(batch)
    local ok, a, b, c = settle_once(batch, carried, o, no_wait)
    if ok or not carried or b == "LEASE_LOST" then
      return ok, a, b, c, refusal, refusal_code
    elseif not item_pushes.settle_aside(batch, carried, fail) then
      item_pushes.release_all(batch)
      settle_once(batch, nil, nil, no_wait)
      return nil, a, b
    end
    refusal, refusal_code = refusal or a, refusal_code or b
  end
end

local SETTLE = {
  of = "batch:settle", take = options.table, push = options.table,
}

-- A batch of nothing has nothing to settle, but more may be taken.
local function settle_nothing(batch, o)
  if not o then return true end
  local next_batch, message, code =
    take.take(batch_state.queue(batch), o)
  if not next_batch then return nil, message, code end
  return true, next_batch
end

local function any_marked(batch)
  for i = 1, #batch do
    if not batches.settled(batch, i) and batches.kind(batch, i) ~= NONE then
      return true
    end
  end
  return false
end

-- A push in the commit of a settle, with the options of a push but `timeout`.
---@class respool.settle_push : respool.push_options
---@field queue respool.queue of the same store
---@field payload any

-- Commits the marks, in one commit. `take` takes the next batch in the same
-- commit, which is the second result; `push` is a list of items that are pushed
-- in it. Items without a mark stay leased. LEASE_LOST: `lost` leases had run
-- out. With `push` nothing has happened then; otherwise the other items are
-- settled, and the fourth result is the batch of `take`. CLOSED: the store is
-- closing; nothing has happened. When a settle with `push` fails, the items
-- lose their marks: a close afterwards releases them, and no outcome is
-- committed without its pushes.
---@param given { take: respool.take_options?, push: respool.settle_push[]? }?
---@return true?, any, string?, respool.batch?
function Methods:settle(given)
  local o = options.read(SETTLE, given, 1)
  local more = o.take and options.read(take.carried_form, o.take, 1)
  local store = batch_state.queue(self).store
  local carried = o.push and push.carried_list(store, o.push)
  if carried and not any_marked(self) then
    compat.misuse("batch:settle: no item is marked to push along with")
  end
  if more and closing.refuses(store) then return closing.refusal(store) end
  if #self == 0 then return settle_nothing(self, more) end
  local ok, a, b, c = M.settle(self, carried, more, false)
  if ok and more then return true, a end
  if ok then return true end
  if carried and not batches.closed(self) then batches.mark_all(self, NONE) end
  return nil, a, b, c
end

-- Marks the items that a handler has dealt with as done, and releases the rest,
-- where they have no mark.
---@param batch respool.batch
function M.default_marks(batch)
  share_outcomes(batch)
  local handled = batch_state.of(batch).handled
  for i = 1, handled < #batch and handled or 0 do
    if batches.kind(batch, i) == NONE then batches.mark(batch, i, DONE) end
  end
  batch_state.mark_rest(batch, {
    kind = handled < #batch and RELEASE or DONE,
  })
end

-- Frees the batch as it is.
---@param batch respool.batch
function M.shut(batch)
  batch_state.queue(batch).store.batches[batch] = nil
  batches.close(batch)
end

-- Settles the marked items at a close.
local function settle_rest(batch)
  if batches.held(batch) == 0 then return true end
  M.default_marks(batch)
  local ok, message, code, _, refusal, refusal_code =
    M.settle_items(batch, nil, false)
  if ok and refusal then return nil, refusal, refusal_code end
  return ok, message, code
end

-- Settles the marked items, releases the rest, and closes the batch in any
-- case. An item whose push is refused is released as well. A second close does
-- nothing. A batch that is collected as garbage settles nothing: its lease runs
-- out.
---@return true?, string?, string?
function Methods:close()
  if batches.closed(self) then return true end
  local ok, message, code = settle_rest(self)
  M.shut(self)
  return options.one(ok, message, code)
end

-- Renews the lease: it ends `seconds` from now, or after the queue's `lease`.
---@param seconds number?
---@return true?, string?, string?
function Methods:extend(seconds)
  if seconds ~= nil then
    seconds = options.argument(1, "batch:extend", seconds, options.lease)
  end
  return batches.extend(self, seconds)
end

-- Renews the lease in the background until the batch is settled or closed, or
-- the queue's max_lease is over.
---@return true?, string?, string?
function Methods:keep()
  return batches.keep(self)
end


local Batch = core.batch_type

function Batch.__index(batch, name)
  if Methods[name] then return Methods[name] end
  if name == "lost" then return batches.lost(batch) end
  if type(name) == "string" then
    fields.unknown("a batch", name, { Methods, { lost = true } })
  end
  if type(name) == "number" and name >= 1 and name <= #batch
     and name % 1 == 0 then
    return item.at(batch, name)
  end
end

function Batch.__tostring(batch)
  if batches.closed(batch) then return "respool batch (closed)" end
  return ("respool batch of %d from %s"):format(#batch,
    batch_state.queue(batch).name)
end

-- Leaving the scope closes the batch, and raises what could not be settled. On
-- the way of an error every item is released, marked or not.
function Batch.__close(batch, err)
  if err ~= nil and not batches.closed(batch) then
    batch_state.mark_all(batch, { kind = RELEASE })
  end
  local ok, message, code = batch:close()
  if not ok and err == nil and code ~= "FORKED" then
    error("respool: " .. message, 0)
  end
end

return M
