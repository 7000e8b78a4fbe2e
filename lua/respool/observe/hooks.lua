-- SPDX-License-Identifier: MIT
--
-- Hooks: functions of the user's that are called when something happens. None
-- of them can harm the work: an error that one raises is passed to on_error,
-- once; an error that on_error or log raises is dropped. A hook that closes the
-- store asks for it: the verb that is running closes it at its end, see
-- closing.lua.

local compat = require "respool.support.compat"
local core = require "respool.core"
local outcome = require "respool.support.outcome"

local M = {}

---@class respool.internal_error
---@field message string
---@field code string? one of the stable codes, when the store is the cause
---@field where string the activity, such as "buffer"

---@alias respool.level "debug"|"info"|"warn"|"error"

-- The running coroutine, or "main" in older Luas.
---@return any
function M.runner()
  return coroutine.running() or "main"
end

local runner = M.runner

-- Whether a hook is running in this coroutine.
---@param store respool.store
---@return boolean
function M.is_running(store)
  return store.hooks[runner()] ~= nil
end

-- compat.pcall(), with the function known to be a hook that is running.
---@param store respool.store
---@param hook function
---@return boolean, any ...
function M.pcall(store, hook, ...)
  local running, who = store.hooks, runner()
  local before = running[who]
  running[who] = (before or 0) + 1
  local function leave(...)
    running[who] = before
    return ...
  end
  return leave(compat.pcall(hook, ...))
end

-- Calls the log hook of a store.
---@param store respool.store
---@param level respool.level
---@param message string
---@param fields table?
function M.log(store, level, message, fields)
  if store.log then M.pcall(store, store.log, level, message, fields or {}) end
end

-- Logs a long wait for another process that is over.
local function tell_wait(store)
  local seconds, whom = core.waited()
  if not seconds then return end
  M.log(store, "warn", "a call waited for another process", {
    seconds = seconds, process = whom,
  })
end

-- Calls on_error, and the log, for an error that no call returns.
---@param store respool.store
---@param where string
---@param message string
---@param code string?
function M.report(store, where, message, code)
  M.log(store, "error", message, { where = where, code = code })
  if not store.on_error then return end
  M.pcall(store, store.on_error,
          { message = message, code = code, where = where })
end

-- Calls on_error for flushes that failed in the background since the last call,
-- once for each buffer.
---@param store respool.store
function M.tell_failures(store)
  local handle = store.handle
  if not store.buffered or handle:closed() then return end
  local failures = handle:flush_failures()
  if failures == (store.failures or 0) then return end
  store.failures = failures
  for _, f in ipairs(handle:failed_flushes() or {}) do
    local what = f.times == 1 and "a flush" or ("%d flushes"):format(f.times)
    M.report(store, "buffer", ("%s of queue '%s' failed: %s"):format(
      what, f.queue, f.error), f.code)
  end
end

-- Calls a hook, if there is one: its first two results.
---@param store respool.store
---@param name string of the hook
---@param hook function?
---@return any, any
function M.call(store, name, hook, ...)
  if not hook then return end
  local ok, first, second = M.pcall(store, hook, ...)
  if ok then return first, second end
  M.report(store, name, outcome.describe(first).text)
end


-- Dead letters.

---@class respool.death
---@field item respool.dead_letter
---@field reason string exhausted, rejected, undecodable, version, crashed ...
---@field group string?
---@field error string?
---@field dlq string where the dead letter is

local function tell_of(queue, dead_letter, dlq)
  M.log(queue.store, "warn", "an item died", {
    queue = queue.name, id = dead_letter.id, reason = dead_letter.reason,
    group = dead_letter.group, error = dead_letter.error,
  })
  M.call(queue.store, "on_dead", queue.on_dead, {
    item = dead_letter, reason = dead_letter.reason, group = dead_letter.group,
    error = dead_letter.error, dlq = dlq,
  })
end

local function tell_dead_letter(queue, dlq, number)
  local dead_letter = queue.dead:in_dlq(dlq):get(number)
  if not dead_letter then return end
  tell_of(queue, dead_letter, dlq)
end

-- The open queue handles of a store that have this field.
local function queues_with(store, field)
  local list = {}
  for queue in pairs(store.queues_open) do
    if queue[field] and not queue.handle:closed() then
      list[#list + 1] = queue
    end
  end
  return list
end

-- Those that have an on_dead hook.
local function listeners(store)
  return queues_with(store, "on_dead")
end

-- A dead letter that no queue handle has made: whoever listens to its queue is
-- told.
local function tell_of_store(store, dlq, number)
  for _, queue in ipairs(listeners(store)) do
    local dead_letter = queue.dead:in_dlq(dlq):get(number)
    if dead_letter and dead_letter.queue == queue.name then
      tell_of(queue, dead_letter, dlq)
    end
  end
end

local function tell_all_dead(store)
  while not store.closing do
    local dlq, number = store.handle:notice()
    if not dlq then break end
    tell_of_store(store, dlq, number)
  end
  for _, queue in ipairs(listeners(store)) do
    while not store.closing do
      local dlq, number = queue.handle:notice()
      if not dlq then break end
      tell_dead_letter(queue, dlq, number)
    end
  end
end

-- Calls on_dead for the dead letters that handles of this store have made
-- since the last call, background flushes of buffers included.
local function tell_dead(store)
  if not store.watched or store.telling then return end
  local function stop()
    store.telling = nil
  end
  store.telling = true
  compat.guard(tell_all_dead, store, stop)
  stop()
end

local PAUSE = 60e6 -- microseconds between looks

-- From now on the log hears of dead letters that keep_dead removes from the
-- DLQ of this queue.
---@param queue respool.queue
function M.watch_dropped(queue)
  local stats = queue.handle:stat(true)
  if not stats then return end
  queue.dropped = stats.dead_dropped
  queue.store.dropped_at = queue.store.dropped_at or core.mono()
end

-- Logs how many dead letters were removed since the last look.
---@param store respool.store
function M.tell_dropped(store)
  store.dropped_at = core.mono()
  for _, queue in ipairs(queues_with(store, "dropped")) do
    local stats = queue.handle:stat(true)
    if stats and stats.dead_dropped > queue.dropped then
      M.log(store, "warn", "the oldest dead letters were removed: the DLQ is "
        .. "full", { queue = queue.name, dlq = queue.dead.dlq,
                     removed = stats.dead_dropped - queue.dropped })
      queue.dropped = stats.dead_dropped
    end
  end
end

-- To be called at the end of each verb: calls the hooks for what has happened
-- since the last call, then closes the store if a hook has asked for it. A verb
-- that answered `code` "PHASE" could read nothing; the next verb does. A verb
-- that a hook calls leaves all this to the verb that called the hook.
---@param store respool.store
---@param code string?
function M.drain(store, code)
  if store.log then tell_wait(store) end
  if not (store.watched or store.buffered or store.closing or store.dropped_at)
     or M.is_running(store) or code == "PHASE" then
    return
  end
  if store.dropped_at and core.mono() > store.dropped_at + PAUSE then
    M.tell_dropped(store)
  end
  tell_dead(store)
  M.tell_failures(store)
  local asked = store.closing and store.closing.asked
  if asked then asked() end
end

return M
