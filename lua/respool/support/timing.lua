-- SPDX-License-Identifier: MIT
--
-- Waiting in slices short enough for the interpreter to notice Ctrl-C, and the
-- reasons to stop waiting.

local core = require "respool.core"

local max, min = math.max, math.min

local M = {}

local SLICE = 0.05
local TAKE_SLICE = 0.25 -- a push ends it: what is idle is to cost little
local LONG_SLICE = 60 -- of a host that wakes those who wait
local MANUAL_SLICE = 3600 -- a manual clock is moved, not slept

local LEAST = 0.001 -- the core counts milliseconds, and 0 is no wait

local wakes -- has calls into the core that wait for items return

-- Gives a host its way to have calls return that wait for items: slices of
-- waiting are long then.
---@param fn fun()
function M.set_waking(fn)
  wakes = fn
end

-- Those who wait for items look whether to go on.
function M.wake()
  if wakes then wakes() end
end

-- How long one call into the core may wait, of the seconds that are left.
---@param store respool.store
---@param left number? math.huge when not given
---@return number
function M.slice(store, left)
  local slice = store.manual and MANUAL_SLICE or SLICE
  return max(min(left or slice, slice), LEAST)
end

-- The same of a call that waits for items.
---@param store respool.store
---@param left number? math.huge when not given
---@return number
function M.take_slice(store, left)
  local slice = wakes and LONG_SLICE or store.manual and MANUAL_SLICE
    or TAKE_SLICE
  return max(min(left or slice, slice), LEAST)
end

-- The end of a wait of so many seconds, which begins now; and how many are
-- left of it: by a clock that never steps, as sums of slices are not exact.
---@param wait number
---@return number
function M.deadline(wait)
  return core.mono() + wait * 1e6
end

---@param ends number
---@return number
function M.left(ends)
  return (ends - core.mono()) / 1e6
end

-- The time for pauses: a manual clock gives its own.
---@param store respool.store
---@return number
function M.time(store)
  if not store.manual then return core.mono() / 1e6 end
  return store.handle:closed() and 0 or store.handle:now()
end

local pause = core.process.nap

-- Gives a host its way to let time pass: pause() calls it.
---@param fn fun(seconds: number)
function M.set_pause(fn)
  pause = fn
end

-- Lets time pass, whatever the clock of a store says; in nginx others run
-- meanwhile.
---@param seconds number
function M.pause(seconds)
  pause(seconds)
end

local listen -- lets time pass until something is committed; else a pause

-- Gives a host its way to let time pass until something is committed in this
-- process: listen() calls it.
---@param fn fun(seconds: number)
function M.set_listening(fn)
  listen = fn
end

-- Lets time pass until something may have been committed, `seconds` at most.
---@param seconds number
function M.listen(seconds)
  local wait = listen or pause
  wait(seconds)
end

local breath -- lets others of this thread run
local TURN = 2000 -- microseconds
local turn_ends = 0

-- Gives a host that runs others in this thread its way to let them.
---@param fn fun()
function M.set_breath(fn)
  breath = fn
end

-- Whether a host runs others in this thread, which a wait in the core would
-- hold up.
---@return boolean
function M.is_shared()
  return breath ~= nil
end

-- For loops that may take long: others have a turn now and then.
function M.breathe()
  if not breath or core.mono() < turn_ends then return end
  breath()
  turn_ends = core.mono() + TURN
end

local every -- calls a function now and then

-- Gives a host its way to call a function each so many seconds, with whether
-- the process is ending, after which it is not called again.
---@param fn fun(seconds: number, fn: fun(ending: boolean)): boolean?
function M.set_every(fn)
  every = fn
end

-- Calls fn(ending) each so many seconds, where a host does so: whether it does.
---@param seconds number
---@param fn fun(ending: boolean)
---@return boolean
function M.every(seconds, fn)
  return every ~= nil and every(seconds, fn) == true
end

local ending -- tells whether the host of this process wants it to end

-- Gives a host its say: once fn() is true, work stops, and what waits for
-- more than a commit waits no longer.
---@param fn fun(): boolean
function M.set_ending(fn)
  ending = fn
end

---@return boolean
function M.is_ending()
  return ending ~= nil and ending()
end

-- Whether work that began at `stops` is to end: by stop(), by closing, by a
-- request to its worker, by a signal to this process, or with its host.
---@param queue respool.queue
---@param stops integer
---@return boolean
function M.is_stopped(queue, stops)
  local worker = queue.worker
  return queue.stops ~= stops or worker ~= nil and worker.stopping
    or queue.signal ~= nil and queue.signal()
    or ending ~= nil and ending()
end

return M
