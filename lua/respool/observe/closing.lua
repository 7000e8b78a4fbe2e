-- SPDX-License-Identifier: MIT
--
-- Closing a store, and the time in which it is closing: pushes from outside
-- are refused, work stops, and handlers that are running may come to their
-- end, with their pushes. What was given to the store by then is on disk or
-- told to be missing; leases are released.
--
-- Lua runs one thing at a time, so who may be running besides the caller are
-- handlers that yielded. A handler that itself closes the store cannot be
-- waited for: given a deadline it goes on, and its work closes the store when
-- it ends; given none, the store is closed at once and the item in hand
-- released.
--
-- Who closes a store that is being closed has nothing to do: it is under way,
-- until its deadline at most. One that cannot come to its end, because it
-- raised an error or nobody runs it any more, is given up.

local compat = require "respool.support.compat"
local core = require "respool.core"
local hooks = require "respool.observe.hooks"
local options = require "respool.support.options"

local batches = core.batch

local M = {}

---@class respool.close_left
---@field handlers integer still running at the deadline
---@field batches integer that could not be settled or released
---@field buffered integer items that could not be flushed, those included of
--- queue handles that were collected

-- Who runs: a coroutine, or in the older Luas the main one.
local function runner()
  return coroutine.running() or "main"
end

-- A new store's table of runners that are at work, with how many loops each.
---@return table
function M.serving()
  return setmetatable({}, { __mode = "k" })
end


-- While the store is closing.

-- A runner at work may push and take until the deadline.
local function admits(store)
  return store.serving[runner()] ~= nil
    and store.handle:now() < store.closing.ends
end

-- Whether a push now would come too late; once the store is closed it is
-- misuse.
---@param store respool.store
---@return boolean
function M.refuses(store)
  return store.closing ~= nil and not store.handle:closed()
    and not admits(store)
end

-- What such a push is answered.
---@param store respool.store
---@return nil, string, string
function M.refusal(store)
  return nil, ("store %s is closing"):format(store.path), "CLOSED"
end


-- Finishing.

-- Before Lua 5.2 a weak table still has what is about to be collected, and
-- its finalizer may close it while it is being closed here.
local function close_batch(batch)
  local ran, ok, message, code = compat.pcall(batch.close, batch)
  if ran then return ok, message, code end
  if not batches.closed(batch) then error(ok, 0) end
  return true
end

-- Settles what open batches have marked, releases the rest. Returns how many
-- could not be, and the first error.
local function close_batches(store)
  local failed, message, code = 0, nil, nil
  for batch in pairs(store.batches) do
    local ok, m, c = close_batch(batch)
    if not ok then
      failed = failed + 1
      message, code = message or m, code or c
    end
  end
  return failed, message, code
end

-- Flushes buffers. Returns how many items are left in them.
local function drain(store)
  if not store.buffered then return 0 end
  local ok, message, code = store.handle:drain()
  if ok then return 0 end
  local left = 0
  for _, stats in ipairs(store.handle:buffers() or {}) do
    left = left + stats.items
  end
  return left, message, code
end

local RETRY = 0.1 -- seconds between tries to flush

-- Flushes buffers, again and again until the deadline. One try is made in
-- any case; in a child process none helps.
local function drain_until(store)
  while true do
    local left, message, code = drain(store)
    local time = store.closing.ends - store.handle:now()
    if not message or code == "FORKED" or time <= 0 then
      return left, message, code
    end
    store.handle:sleep(math.min(time, RETRY))
  end
end

local function none_serving(store)
  return next(store.serving) == nil
end

local function count_serving(store)
  local n = 0
  for _, loops in pairs(store.serving) do n = n + loops end
  return n
end

-- Remembers what went wrong first.
local function note(trouble, message, code)
  if message and not trouble.message then
    trouble.message, trouble.code = message, code
  end
end

-- Does what is to be done before the store is closed. Returns how much of it
-- could not be, and why.
local function conclude(store, late)
  local left, trouble, message, code = { handlers = late }, {}
  left.batches, message, code = close_batches(store)
  note(trouble, message, code)
  left.buffered, message, code = drain_until(store)
  note(trouble, message, code)
  local _, flush_message, flush_code = store.handle:flush()
  note(trouble, flush_message, flush_code)
  if late > 0 then
    note(trouble, ("%d handler%s still running at the deadline"):format(
      late, late == 1 and " was" or "s were"), "TIMEOUT")
  end
  return left, trouble.message, trouble.code
end

-- Closes the store whatever comes of it. `late` is how many handlers were
-- waited for in vain. Only an error of the interpreter's, such as Ctrl-C,
-- leaves it to the next.
local function finish(store, late)
  local closing = store.closing
  closing.finishing = true
  local left, message, code = compat.guard(function()
    return conclude(store, late)
  end, nil, function() closing.finishing = nil end)
  hooks.tell_failures(store)
  store.handle:close()
  if message then
    hooks.report(store, "close", message, code)
    return nil, message, code, left
  end
  hooks.log(store, "info", "store closed", { path = store.path })
  return true
end


-- Work.

-- A loop begins, or is refused.
---@param store respool.store
---@return true?, string?, string?
function M.enter(store)
  if store.closing then return M.refusal(store) end
  local who = runner()
  store.serving[who] = (store.serving[who] or 0) + 1
  return true
end

-- A loop has ended. Closes the store if that was left to it; nil and why when
-- this went wrong.
---@param store respool.store
---@return true?, string?, string?
function M.leave(store)
  local who = runner()
  local loops = (store.serving[who] or 0) - 1
  store.serving[who] = loops > 0 and loops or nil
  local closing = store.closing
  if not closing or closing.finishing or not closing.deferred then
    return true
  end
  if none_serving(store) or store.handle:now() >= closing.ends then
    return finish(store, 0)
  end
  return true
end


-- Closing.

-- Stops all work and shuts the door. Queues lose their short way to push,
-- which knows no door.
local function begin(store, deadline)
  store.closing = { ends = store.handle:now() + deadline }
  for q in pairs(store.queues_open) do
    q:stop()
    rawset(q, "push", nil)
  end
end

-- Lets handlers of other coroutines run until they end, or the deadline.
local function let_run(store, pause)
  local closing = store.closing
  while not store.handle:closed() and not none_serving(store) do
    local left = closing.ends - store.handle:now()
    if left <= 0 then break end
    pause(math.min(left, RETRY))
  end
end

-- The same, known to be under way as long as there is who waits.
local function wait(store, pause)
  local closing = store.closing
  closing.waiting = setmetatable({ runner() }, { __mode = "v" })
  compat.guard(function() let_run(store, pause) end, nil, function()
    closing.waiting = nil
  end)
end

-- Whether a close that was begun will come to its end without the caller.
local function is_under_way(store)
  local closing = store.closing
  if not closing or closing.given_up then return false end
  if closing.finishing then return true end
  if store.handle:now() >= closing.ends then return false end
  if closing.deferred then return not none_serving(store) end
  return closing.waiting ~= nil and closing.waiting[1] ~= nil
end

-- What is under way will not be gone on with: the next to close the store
-- closes it.
---@param store respool.store
function M.give_up(store)
  if store.closing then store.closing.given_up = true end
end

-- Closes the store: see Store:close.
---@param store respool.store
---@param deadline number? seconds
---@param pause fun(seconds: number)?
---@return true?, string?, string?, respool.close_left?
function M.close(store, deadline, pause)
  if deadline ~= nil then
    options.argument(1, "store:close", deadline, options.seconds)
  end
  if pause ~= nil then
    options.argument(2, "store:close", pause, options.callable)
  end
  if store.handle:closed() or is_under_way(store) then return true end
  begin(store, deadline or 0)
  if not deadline then return finish(store, 0) end
  if store.serving[runner()] then
    store.closing.deferred = true
    return true
  end
  if pause then wait(store, pause) end
  if store.handle:closed() or store.closing.finishing then
    return true -- by who was waited for
  end
  return finish(store, pause and count_serving(store) or 0)
end

return M
