-- SPDX-License-Identifier: MIT
--
-- Hooks: functions of the user's that are told what happens. None of them can
-- harm the work: an error that one raises goes to on_error, once, and an error
-- that on_error or log raises goes nowhere. One may close the store, which
-- ends the work; hooks that would come later are not called then.

local compat = require "respool.support.compat"
local core = require "respool.core"
local outcome = require "respool.support.outcome"

local batches = core.batch

local M = {}

---@class respool.internal_error
---@field message string
---@field code string? one of the stable codes, when the store is the cause
---@field where string what was going on, such as "buffer"

---@alias respool.level "debug"|"info"|"warn"|"error"

-- Tells the log hook of a store.
---@param store respool.store
---@param level respool.level
---@param message string
---@param fields table?
function M.log(store, level, message, fields)
  if store.log then compat.pcall(store.log, level, message, fields or {}) end
end

-- Tells on_error what nobody else would be told, and the log.
---@param store respool.store
---@param where string
---@param message string
---@param code string?
function M.report(store, where, message, code)
  M.log(store, "error", message, { where = where, code = code })
  if not store.on_error then return end
  compat.pcall(store.on_error,
               { message = message, code = code, where = where })
end

-- Tells on_error of flushes that failed in the background since it was told
-- last, those of one buffer together. Who calls it must bear that on_error
-- closes the store.
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

-- Calls a hook, if there is one.
---@param store respool.store
---@param name string of the hook
---@param hook function?
function M.call(store, name, hook, ...)
  if not hook then return end
  local ok, err = compat.pcall(hook, ...)
  if not ok then M.report(store, name, outcome.describe(err).text) end
end


-- Items that are about to die: known when they are marked, true when they
-- are settled.

---@class respool.death
---@field item respool.item|respool.dead_letter the dead_letter of one that ended in a
--- take: it had expired, had crashed too often, or its bytes are damaged; or
--- in a push: a full queue that buries had no room for it, or it had expired
--- and was in the way
---@field kind integer? that it was marked with
---@field reason string exhausted, rejected, undecodable, version ...
---@field group string?
---@field error string?
---@field dlq string? nil: the queue's

-- Notes, for a queue with an on_dead hook, what the mark of an item means.
---@param queue respool.queue
---@param item respool.item
---@param death respool.death
function M.note_death(queue, item, death)
  if not queue.on_dead then return end
  local beside = batches.beside(item[1])
  beside.deaths = beside.deaths or {}
  beside.deaths[item[2]] = death
end

local function tell_death(queue, death)
  M.log(queue.store, "warn", "an item died", {
    queue = queue.name, id = death.item.id, reason = death.reason,
    group = death.group, error = death.error,
  })
  if queue.handle:closed() then return end -- by the log
  M.call(queue.store, "on_dead", queue.on_dead, death)
end

local function tell_dead_letter(queue, dlq, number)
  local dead_letter = queue.dead:in_dlq(dlq):get(number)
  if not dead_letter then return end
  tell_death(queue, {
    item = dead_letter, reason = dead_letter.reason, group = dead_letter.group,
    error = dead_letter.error, dlq = dlq,
  })
end

-- Handles of a store that are to be told of deaths.
local function listeners(store)
  local list = {}
  for queue in pairs(store.queues_open) do
    if queue.on_dead then list[#list + 1] = queue end
  end
  return list
end

-- What became dead letters in pushes of this store's handles, whoever made
-- them: those that its buffers have flushed meanwhile are told of with the
-- next verb that may read them, so not after one whose `code` is "PHASE".
---@param store respool.store
---@param code string?
function M.tell_pushed(store, code)
  if not store.watched or code == "PHASE" then return end
  for _, queue in ipairs(listeners(store)) do
    while not queue.handle:closed() do -- by a hook
      local dlq, number = queue.handle:notice()
      if not dlq then break end
      tell_dead_letter(queue, dlq, number)
    end
  end
end

-- What became dead letters in a take; `state` is the table beside its batch.
---@param state table
function M.tell_buried(state)
  local queue, died = state.queue, state.died or {}
  state.died = nil
  for _, d in ipairs(died) do
    if queue.handle:closed() then return end -- by a hook
    tell_dead_letter(queue, d.dlq, d.number)
  end
  M.tell_pushed(queue.store)
end

-- Takes out what has been settled as it was marked when it was noted.
local function died(batch, deaths)
  local list = {}
  for i = 1, #batch do
    local death = deaths[i]
    if death and batches.settled(batch, i) then
      deaths[i] = nil
      if batches.kind(batch, i) == death.kind then
        list[#list + 1] = death
      end
    end
  end
  return list
end

-- After a settle: tells of the items that have died.
---@param batch respool.batch
function M.tell_deaths(batch)
  local beside = batches.beside(batch)
  for _, death in ipairs(beside.deaths and died(batch, beside.deaths) or {}) do
    if batches.closed(batch) then return end -- by a hook
    tell_death(beside.queue, death)
  end
  M.tell_pushed(beside.queue.store)
end

return M
