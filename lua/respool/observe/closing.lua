-- SPDX-License-Identifier: MIT
--
-- Closing a store, and the time in which it is closing: pushes from outside
-- are refused, work stops, and handlers that are running may come to their
-- end, with their pushes. Everything given to the store by then is on disk or
-- reported as missing; leases are released.
--
-- Lua runs one thing at a time: apart from the caller, only handlers that
-- yielded may be running. A handler or a hook that closes the store asks for
-- it: its work, or the verb that called the hook, closes the store at its end.
-- Until then a handler goes on if a deadline was given; without one, work ends
-- at once and the item in hand is released.
--
-- A second close returns at once: the first is in progress and ends at its
-- deadline at the latest. Work that cannot end, because it raised an error or
-- its coroutine is not resumed any more, is given up.

local compat = require "respool.support.compat"
local core = require "respool.core"
local hooks = require "respool.observe.hooks"
local location = require "respool.support.location"
local logger = require "respool.observe.logger"
local options = require "respool.support.options"

local batches = core.batch

local M = {}

---@class respool.close_left
---@field handlers integer still running at the deadline
---@field batches integer that could not be settled or released
---@field buffered integer items that could not be flushed, those included of
--- queue handles that were collected

local runner = hooks.runner


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

-- Whether work is to end at once, and release the item in hand: a handler or a
-- hook has closed the store without a deadline.
---@param store respool.store
---@return boolean
function M.is_immediate(store)
  local closing = store.closing
  return closing ~= nil and closing.immediate
end

-- The answer to such a push.
---@param store respool.store
---@return nil, string, string
function M.refusal(store)
  return nil, ("store %s is closing"):format(location.shown(store.path)),
    "CLOSED"
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
  for _, loops in pairs(store.serving) do n = n + #loops end
  return n
end

-- Remembers what went wrong first.
local function note(trouble, message, code)
  if message and not trouble.message then
    trouble.message, trouble.code = message, code
  end
end

-- Does the work that comes before the store is closed. Returns how much of it
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

-- Closes the store in any case. `late` is how many handlers were
-- waited for in vain. Only an error of the interpreter's, such as Ctrl-C,
-- leaves it to the next.
local function finish(store, late)
  local closing = store.closing
  closing.finishing = true
  local left, message, code = compat.guard(function()
    return conclude(store, late)
  end, nil, function() closing.finishing = nil end)
  hooks.tell_failures(store)
  if store.dropped_at and not message then hooks.tell_dropped(store) end
  store.handle:close()
  if message then
    hooks.report(store, "close", message, code)
    return nil, message, code, left
  end
  hooks.log(store, "info", logger.CLOSED, {
    path = location.shown(store.path),
  })
  return true
end


-- Work.

-- A loop on the queue of this name begins, or is refused.
---@param store respool.store
---@param name string
---@return true?, string?, string?
function M.enter(store, name)
  if store.closing then return M.refusal(store) end
  local who = runner()
  store.serving[who] = store.serving[who] or {}
  table.insert(store.serving[who], name)
  return true
end

-- Closes the store, as was asked for, once this coroutine is neither at work
-- nor in a hook; other handlers may go on until the deadline.
local function finish_asked(store)
  local closing = store.closing
  if store.handle:closed() or closing.finishing or store.serving[runner()]
     or not none_serving(store) and store.handle:now() < closing.ends then
    return true
  end
  return finish(store, 0)
end

-- Whether this coroutine runs a handler of work on the queue of this name.
---@param store respool.store
---@param name string
---@return boolean
function M.works_on(store, name)
  for _, working in ipairs(store.serving[runner()] or {}) do
    if working == name then return true end
  end
  return false
end

-- A loop has ended. Closes the store if that was asked for; nil and why when
-- this failed.
---@param store respool.store
---@return true?, string?, string?
function M.leave(store)
  local who = runner()
  local loops = store.serving[who] or {}
  table.remove(loops)
  if #loops == 0 then store.serving[who] = nil end
  if store.closing and store.closing.asked and not hooks.is_running(store) then
    return finish_asked(store)
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

-- The same; the close is in progress as long as the waiting coroutine lives.
local function wait(store, pause)
  local closing = store.closing
  closing.waiting = setmetatable({ runner() }, { __mode = "v" })
  compat.guard(function() let_run(store, pause) end, nil, function()
    closing.waiting = nil
  end)
end

-- Whether a close that was begun will end without the caller.
local function is_under_way(store)
  local closing = store.closing
  if not closing or closing.given_up then return false end
  if closing.finishing then return true end
  if closing.immediate then return closing.by[1] == runner() end
  if store.handle:now() >= closing.ends then return false end
  if closing.asked then
    return not none_serving(store) or next(store.hooks) ~= nil
  end
  return closing.waiting ~= nil and closing.waiting[1] ~= nil
end

-- The close in progress is given up: the next close closes the store.
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
    deadline = options.argument(1, "store:close", deadline, options.seconds)
  end
  if pause ~= nil then
    options.argument(2, "store:close", pause, options.callable)
  end
  if store.handle:closed() or is_under_way(store) then return true end
  begin(store, deadline or 0)
  if store.serving[runner()] or hooks.is_running(store) then
    store.closing.immediate = deadline == nil
    store.closing.by = setmetatable({ runner() }, { __mode = "v" })
    store.closing.asked = function() return finish_asked(store) end
    return true
  end
  if not deadline then return finish(store, 0) end
  if pause then wait(store, pause) end
  if store.handle:closed() or store.closing.finishing then
    return true -- by who was waited for
  end
  return finish(store, pause and count_serving(store) or 0)
end

return M
