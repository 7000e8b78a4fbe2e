-- SPDX-License-Identifier: MIT
--
-- respool.testing: what the tests of a program want that uses queues. A store
-- in memory whose time stands still until it is moved; a queue worked until
-- nothing is left; the schedules of a stretch of time; what a queue holds.
--
--   local testing = require "respool.testing"
--   local store = testing.store()
--   local mails = store:queue "mails"
--   sign_up(store, "ada@example.org")
--   assert.same({ { to = "ada@example.org" } }, testing.contents(mails).ready)
--   testing.drain(mails, send)
--   testing.run_schedules(store, store:now() + 86400)

local compat = require "respool.support.compat"
local options = require "respool.support.options"
local schedules = require "respool.produce.schedules"
local store_of = require "respool.store"

local M = {}

local huge, max = math.huge, math.max

local STORE = {
  of = "testing.store", seed = options.whole(0, 2^53 - 1),
  log = function(value)
    if value == false or options.callable(value) then return value end
    return nil, "a function, or false"
  end,
}

-- Opens a store in memory that is gone when it is closed. Nothing waits for a
-- disk, the jitter of retries is the same in each run, nothing is logged, and
-- the clock is moved only by store:advance() and by calls that would wait.
-- Raises where there is no such store.
---@param given { seed: integer?, log: respool.log|false? }?
---@return respool.store
function M.store(given)
  local o = options.read(STORE, given, 1)
  local store, message = store_of.open(":memory:", {
    clock = "manual", sync = "none", seed = o.seed or 1, log = o.log or false,
  })
  if not store then error("testing.store: " .. message, 0) end
  return store
end

-- Raises what a verb answered instead of a value.
local function need(of, value, message)
  if value == nil then error(("%s: %s"):format(of, message), 0) end
  return value
end

local function check_manual(of, store)
  if not store.manual then
    compat.misuse(("%s: the store's clock is not moved by hand: open it with "
      .. "clock = \"manual\""):format(of))
  end
end

local DRAIN = { of = "testing.drain", scheduled = options.boolean }

-- Moves the clock to the next item that is scheduled; false: none is.
local function go_to_next(queue)
  local stats = need("testing.drain", queue:stats())
  if stats.paused or not stats.next_due then return false end
  queue.store:advance(max(stats.next_due - queue.store:now(), 0))
  return true
end

-- Works on the queue until nothing is ready, leased or waiting for a retry, for
-- which it moves the clock; with `scheduled` also until nothing is scheduled
-- for later. Returns the counts of the work, of all its rounds.
---@param queue respool.queue
---@param handler respool.handler
---@param given { scheduled: boolean? }?
---@return respool.work_counts
function M.drain(queue, handler, given)
  options.argument(1, "testing.drain", queue, options.queue)
  options.argument(2, "testing.drain", handler, options.callable)
  local o, sums = options.read(DRAIN, given, 3), {}
  check_manual("testing.drain", queue.store)
  repeat
    local counts = need("testing.drain",
                        queue:work(handler, { stop_when_empty = true }))
    for name, n in pairs(counts) do sums[name] = (sums[name] or 0) + n end
  until not o.scheduled or not go_to_next(queue)
  return sums
end

-- The first tick up to a moment; math.huge when there is none.
local function next_tick(store, moment)
  local at = huge
  for _, s in ipairs(need("testing.run_schedules", store:schedules())) do
    local tick = s.next_at or huge
    if tick > store:now() and tick <= moment and tick < at then at = tick end
  end
  return at
end

-- Moves the clock to a moment, firing each tick of a schedule at its time on
-- the way. Returns how many items were pushed.
---@param store respool.store
---@param moment number seconds since 1970, such as store:now() + 86400
---@return integer
function M.run_schedules(store, moment)
  options.argument(1, "testing.run_schedules", store, options.store)
  options.argument(2, "testing.run_schedules", moment, options.time)
  check_manual("testing.run_schedules", store)
  local fired = schedules.fire(store)
  local at = next_tick(store, moment)
  while at < huge do
    store:advance(at - store:now())
    fired = fired + schedules.fire(store)
    at = next_tick(store, moment)
  end
  store:advance(max(moment - store:now(), 0))
  return fired
end

---@class respool.contents
---@field ready any[] payloads, in the order in which each() walks
---@field leased any[]
---@field scheduled any[]
---@field retrying any[]
---@field dead any[] of its DLQ
---@field done any[] that keep_done keeps
---@field cancelled any[] that keep_done keeps

-- The payloads that a queue holds, by what has become of their items.
---@param queue respool.queue
---@return respool.contents
function M.contents(queue)
  options.argument(1, "testing.contents", queue, options.queue)
  local all = { ready = {}, leased = {}, scheduled = {}, retrying = {},
                dead = {}, done = {}, cancelled = {} }
  for item in queue:each() do
    local list = all[item.state]
    list[#list + 1] = item.payload
  end
  for dead_letter in queue.dead:each() do
    all.dead[#all.dead + 1] = dead_letter.payload
  end
  for item in queue.history:each() do
    local list = all[item.state]
    list[#list + 1] = item.payload
  end
  return all
end

return M
