-- SPDX-License-Identifier: MIT
--
-- Transactions: pushes, outcomes and dead letter moves over any queues of a
-- store, gathered in memory, committed together or not at all. Nothing is
-- locked until the commit, which finds changes of the store since then.
--
-- For each step of the core's list, `steps` has what it was: a push, the
-- outcome of an item, or true.

local core = require "respool.core"
local batch_state = require "respool.consume.batch_state"
local closing = require "respool.observe.closing"
local compat = require "respool.support.compat"
local decide = require "respool.consume.decide"
local hooks = require "respool.observe.hooks"
local item_of = require "respool.consume.item"
local item_pushes = require "respool.consume.item_pushes"
local options = require "respool.support.options"
local outcome = require "respool.support.outcome"
local push = require "respool.produce.push"
local tracing = require "respool.observe.tracing"

local batches = core.batch

local M = {}

---@class respool.transaction
---@field store respool.store
---@field handle userdata
---@field scoped boolean whether it ends with the function it was begun for
---@field steps table[]
local Transaction = { __name = "respool.transaction" }
Transaction.__index = Transaction

-- The result of a push.
---@class respool.pushed
---@field id integer? of its item, the first of several; after the commit
---@field held boolean? nothing was pushed, as another item has the key and
--- on_conflict is "ignore"; after the commit
---@field n integer items

-- Notes a step. A call that cannot be a step raises: the transaction would be
-- another without it.
local function add(tx, entry, step, message)
  if not step then compat.misuse(message) end
  tx.steps[step + 1] = entry
  return entry
end

local function rollback(tx, n)
  tx.handle:rollback(n)
  for i = #tx.steps, n + 1, -1 do tx.steps[i] = nil end
end


-- Pushes.

-- A push as push.carried() makes it, with all its bodies.
local function add_push(tx, bodies, carried)
  return add(tx, { n = #bodies }, tx.handle:push(
    carried.queue, bodies, carried.codec, carried))
end

-- Pushes in the commit, without the buffer if the queue has one.
---@param queue respool.queue
---@param payload any
---@param given respool.push_options?
---@return respool.pushed
function Transaction:push(queue, payload, given)
  options.argument(1, "transaction:push", queue, options.queue)
  local o = tracing.carried(queue, 1, push.read(given, 3))
  local carried = push.carried(self.store, queue, payload, o)
  return add_push(self, { carried.bytes }, carried)
end

-- Pushes all payloads of the list; their ids follow each other.
---@param queue respool.queue
---@param list any[]
---@param given respool.push_options?
---@return respool.pushed
function Transaction:push_many(queue, list, given)
  options.argument(1, "transaction:push_many", queue, options.queue)
  push.check_list("transaction:push_many", 2, list)
  local o = tracing.carried(queue, #list, push.read_many(given, 3, list))
  local bodies, carried = {}, nil
  for i = 1, #list do
    carried = push.carried(self.store, queue, list[i], o)
    bodies[i] = carried.bytes
  end
  return add_push(self, bodies, carried)
end


-- Notes.

-- Keeps bytes under a name of the store, for respool's own commands.
---@param name string
---@param bytes string
function Transaction:note(name, bytes)
  add(self, true, self.handle:note(name, bytes))
end


-- Outcomes: each is the item's when the transaction commits; the last word
-- counts. Until then the item is as it was.

local function mark(tx, of, item, o)
  options.argument(1, "transaction:" .. of, item, item_of.kind)
  local queue = item_of.queue_of(item)
  if queue.store ~= tx.store then
    compat.misuse("transaction:" .. of .. ": the item is of another store")
  end
  local batch = item[1]
  local given = decide.mark_of(queue, o)
  for _, m in ipairs(decide.marks(queue, item, given, o.error)) do
    local i = m.item[2]
    local memos = batch_state.of(batch).memos
    m.mark.memo = memos and memos[i]
    add(tx, { item = m.item, kind = o.kind },
        tx.handle:mark(batch, i, m.mark))
  end
end

-- The item is done.
---@param item respool.item
function Transaction:done(item)
  mark(self, "done", item, { kind = outcome.DONE })
end

-- The item failed and is tried again, after `delay` seconds or by policy.
---@param item respool.item
---@param given { delay: number?, error: any, group: string|integer? }?
function Transaction:retry(item, given)
  mark(self, "retry", item, outcome.retry(given))
end

-- The item failed for good: it becomes a dead letter.
---@param item respool.item
---@param given { error: any, group: string|integer?, dlq: string? }?
function Transaction:dead(item, given)
  mark(self, "dead", item, outcome.dead(given))
end

-- The item failed for good and is removed, without a dead letter.
---@param item respool.item
---@param given { error: any }?
function Transaction:drop(item, given)
  mark(self, "drop", item, outcome.drop(given))
end

-- The item is ready again at once; no attempt is spent.
---@param item respool.item
function Transaction:release(item)
  mark(self, "release", item, outcome.release())
end

-- The item is scheduled again after `seconds`; no attempt is spent.
---@param item respool.item
---@param seconds number
function Transaction:snooze(item, seconds)
  mark(self, "snooze", item, outcome.snooze(seconds))
end

-- The item is ready again when its queue, which is held for `seconds`, goes on.
---@param item respool.item
---@param seconds respool.seconds
---@param reason string?
function Transaction:hold(item, seconds, reason)
  mark(self, "hold", item, outcome.hold(seconds, reason))
end


-- Dead letters. The commit answers NOT_FOUND when one is gone by then.

local function dead_letter(tx, of, dead, number, to, remove)
  options.argument(1, "transaction:" .. of, dead, options.dead)
  options.argument(2, "transaction:" .. of, number, options.id)
  if dead.store ~= tx.store or to and to.store ~= tx.store then
    compat.misuse("transaction:" .. of
      .. ": the dead letter is of another store")
  end
  add(tx, true,
    tx.handle:dead_letter(dead.dlq, number, to and to.handle, remove))
end

local REPLAY = { of = "transaction:replay", to = options.queue }

-- Moves a dead letter back to its queue, or to another.
---@param dead respool.dead
---@param number integer
---@param given { to: respool.queue? }?
function Transaction:replay(dead, number, given)
  local o = options.read(REPLAY, given, 3)
  dead_letter(self, "replay", dead, number, o.to, false)
end

-- Removes a dead letter.
---@param dead respool.dead
---@param number integer
function Transaction:remove(dead, number)
  dead_letter(self, "remove", dead, number, nil, true)
end


-- Ending.

-- The last outcome of each item, by batch and number.
local function outcomes(tx)
  local by_batch = {}
  for _, step in ipairs(tx.steps) do
    if step ~= true and step.item then
      local batch, i = step.item[1], step.item[2]
      by_batch[batch] = by_batch[batch] or {}
      by_batch[batch][i] = step.kind
    end
  end
  return by_batch
end

-- Adds the pushes that items have made by item:push.
local function add_pushes(tx, by_batch)
  for batch, kinds in pairs(by_batch) do
    for _, carried in ipairs(item_pushes.gather_for(batch, kinds)) do
      add_push(tx, { carried.bytes }, carried)
    end
  end
end

local function has_pushes(tx)
  for _, step in ipairs(tx.steps) do
    if step ~= true and step.n then return true end
  end
  return false
end

local function publish(tx)
  for i, step in ipairs(tx.steps) do
    if step ~= true and step.n then
      step.id, step.held = tx.handle:id(i - 1), tx.handle:held(i - 1)
    end
  end
end

-- Tells the tracer of the batches whose items are settled.
local function start_settles(by_batch)
  local traces = {}
  for batch, kinds in pairs(by_batch) do
    local n, queue = 0, batch_state.queue(batch)
    for _ in pairs(kinds) do n = n + 1 end
    traces[#traces + 1] = tracing.start(queue.store, {
      operation = "settle", queue = queue.name, items = n, batch = batch,
    })
  end
  return traces
end

local function commit(tx)
  local n, by_batch = #tx.steps, outcomes(tx)
  for batch in pairs(by_batch) do
    batches.length(batch) -- raises when it is closed
  end
  if has_pushes(tx) and closing.refuses(tx.store) then
    return closing.refusal(tx.store)
  end
  add_pushes(tx, by_batch)
  local traces = tx.store.tracer and start_settles(by_batch)
  local ok, message, code = tx.handle:commit()
  for _, trace in ipairs(traces or {}) do
    tracing.finish(tx.store, trace, {
      error = not ok and message or nil, code = not ok and code or nil,
    })
  end
  if not ok then
    rollback(tx, n)
    return nil, message, code
  end
  publish(tx)
  tx.handle:close()
  hooks.drain(tx.store)
  return true
end

local function check_by_hand(tx, of)
  if tx.scoped then
    compat.misuse(("transaction:%s: it ends with its function"):format(of))
  end
end

-- Commits all of it, or nothing: after an error it may be changed and committed
-- again. LEASE_LOST when the lease of an item was lost.
---@return true?, string?, string?
---@nodiscard
function Transaction:commit()
  check_by_hand(self, "commit")
  return commit(self)
end

-- Ends the transaction; nothing has happened.
---@return true
function Transaction:rollback()
  check_by_hand(self, "rollback")
  self.handle:rollback(0) -- raises when it has ended
  self.handle:close()
  return true
end

-- Leaving the scope rolls back a transaction that is not committed.
function Transaction:__close()
  self.handle:close()
end

function Transaction:__tostring()
  if self.handle:closed() then return "respool transaction (closed)" end
  return ("respool transaction of %d steps"):format(#self.steps)
end


-- Beginning.

local function new(store, scoped)
  if closing.refuses(store) then return closing.refusal(store) end
  local handle, message, code = store.handle:begin()
  if not handle then return nil, message, code end
  return setmetatable({
    store = store, handle = handle, scoped = scoped, steps = {},
  }, Transaction)
end

-- A transaction that is ended by hand. Dropped, it never happened.
---@param store respool.store
---@return respool.transaction?, string?, string?
---@nodiscard
function M.begin(store)
  return new(store, false)
end

local FUNCTION = "the function of the transaction"

-- The coroutine that runs, as a key.
local function runner(store)
  return coroutine.running() or store
end

local function or_true(...)
  if select("#", ...) == 0 then return true end
  return ...
end

-- The results for a function that said no; its third result is a code.
local function refused(why, _, _, code)
  return nil, why, type(code) == "string" and code or nil
end

-- Within another: its steps are that one's, unless fn raises or says no.
local function join(tx, fn)
  local n = #tx.steps
  local function undo()
    if not tx.handle:closed() then rollback(tx, n) end
  end
  local function finish(...)
    local why = outcome.refusal(FUNCTION, ...)
    if not why then return or_true(...) end
    undo()
    return refused(why, ...)
  end
  return finish(compat.guard(fn, tx, undo))
end

local function run(tx, fn)
  local function finish(...)
    local why = outcome.refusal(FUNCTION, ...)
    if why then return refused(why, ...) end
    local ok, message, code = commit(tx)
    if not ok then return nil, message, code end
    return or_true(...)
  end
  return finish(fn(tx))
end

-- Calls fn(tx) and commits. Returns what fn returned, true when that was
-- nothing; or nil, message, code when the commit failed. When fn raises,
-- nothing has happened and the error goes on. When it returns nil and an error,
-- or false, nothing has happened, and that is returned as nil, message and the
-- code that fn returned third, if any. Within the fn of another
-- transaction of the store, in the same coroutine, it joins that one: an
-- error that is caught there, or a no, undoes the inner one only.
---@param store respool.store
---@param fn fun(tx: respool.transaction): ...
---@return any ...
function M.run(store, fn)
  options.argument(1, "store:transaction", fn, options.callable)
  local running, key = store.transactions, runner(store)
  if running[key] then return join(running[key], fn) end
  local tx, message, code = new(store, true)
  if not tx then return nil, message, code end
  running[key] = tx
  local function leave(...)
    running[key] = nil
    tx.handle:close()
    return ...
  end
  return leave(compat.guard(function() return run(tx, fn) end, nil, leave))
end

return M
