-- SPDX-License-Identifier: MIT
--
-- Schedules: items pushed at the ticks of a cron expression. They are stored,
-- and fired by whoever works on a queue of the store, waits in a take, or
-- maintains it; a tick's push and the next tick are one commit, so each tick is
-- fired once, however many processes there are. There is no thread: where
-- nobody works, ticks are missed, and `missed` says what becomes of them.

local closing = require "respool.observe.closing"
local codec = require "respool.support.codec"
local compat = require "respool.support.compat"
local core = require "respool.core"
local hooks = require "respool.observe.hooks"
local options = require "respool.support.options"
local outcome = require "respool.support.outcome"
local push = require "respool.produce.push"
local stats = require "respool.observe.stats"

local huge, max, min = math.huge, math.max, math.min

local M = {}

local LOOK = 5e6 -- microseconds after which others may have changed something
local AGAIN = 1  -- seconds until a schedule that failed is tried again

-- The tick that a payload is made for.
---@class respool.tick
---@field schedule string its name
---@field at number

-- Makes the payload of a tick. It refuses as a handler does: by raising, or by
-- returning nil and an error; then it is asked again, for the same tick.
---@alias respool.tick_payload fun(tick: respool.tick): any, any

---@class respool.schedule_options
---@field cron string five fields of crontab(5), or @hourly, @daily ...
---@field timezone string? of the tz database, such as "Europe/Berlin"; UTC
---@field queue respool.queue|string a queue of the store, or its name
---@field payload any of the items; or a function that makes it at each tick,
--- in the programs that call store:schedule with it
---@field missed "one"|"all"|"none"? what is pushed of ticks that passed while
--- nobody fired them: one item, an item for each, or nothing; "one"
---@field priority integer? 0 to 255

local NUMBERS = { one = 0, all = 1, none = 2 }

local function queue_or_name(value)
  if type(value) == "string" then return options.name(value) end
  local queue = options.queue(value)
  if queue then return queue end
  return nil, "a queue or its name"
end

local FORM = {
  of = "store:schedule",
  cron = options.string,
  timezone = options.string,
  queue = queue_or_name,
  payload = function(value) return value end,
  missed = options.choice(NUMBERS),
  priority = options.whole(0, 255),
}


-- Saving and listing.

-- A queue that is known by its name: its payloads are CBOR.
local function of_name(name)
  return { name = name, codec = codec.default }
end

local function encoded(queue, payload)
  local value, by = push.body(queue, payload)
  if by == true then return core.cbor.encode(value), nil end
  return value, by
end

local function forget(store)
  store.ticks = nil
end

-- Makes a schedule, or changes it; nothing is written where it is the same.
---@param store respool.store
---@param name string
---@param given respool.schedule_options
---@return respool.schedule?, string?, string?
function M.save(store, name, given)
  options.argument(1, "store:schedule", name, options.name)
  local o = options.read(FORM, given, 2)
  options.need(FORM, o, "cron", "queue", "payload")
  local queue = type(o.queue) == "string" and of_name(o.queue) or o.queue
  if queue.store and queue.store ~= store then
    compat.misuse(("store:schedule: queue '%s' is of another store"):format(
      queue.name))
  end
  local made = type(o.payload) == "function"
  local body, by
  if not made then body, by = encoded(queue, o.payload) end
  local ok, message, code = store.handle:schedule_save(name, {
    cron = o.cron, timezone = o.timezone, queue = queue.name, body = body,
    codec = by, priority = o.priority, missed = o.missed,
    version = queue.version,
  })
  if not ok then return nil, message, code end
  store.tick_payloads[name] = made and { make = o.payload, queue = queue }
    or nil
  forget(store)
  return M.get(store, name)
end

-- All of them, by name.
---@param store respool.store
---@return respool.schedule[]?, string?, string?
function M.list(store)
  return stats.schedules(store)
end

---@param store respool.store
---@param name string
---@return respool.schedule?, string?, string?
function M.get(store, name)
  local all, message, code = stats.schedules(store, name)
  if not all then return nil, message, code end
  return all[1]
end

---@param store respool.store
---@param name string
---@param paused boolean
---@return true?, string?, string?
function M.pause(store, name, paused)
  forget(store)
  return store.handle:schedule_pause(name, paused)
end

---@param store respool.store
---@param name string
---@return true?, string?, string?
function M.remove(store, name)
  forget(store)
  store.tick_payloads[name] = nil
  return store.handle:schedule_remove(name)
end

-- The payload that a function makes for a tick; nil and why when it refuses.
local function make_payload(made, name, at)
  local ok, payload, err = compat.pcall(made.make, { schedule = name, at = at })
  local why
  if not ok then
    why = outcome.describe(payload).text
  elseif payload == nil then
    why = err ~= nil and outcome.describe(err).text
      or "the function of its payload returned nothing"
  end
  if why then return nil, ("schedule '%s': %s"):format(name, why) end
  return encoded(made.queue, payload)
end

-- Pushes the item of a schedule now; its next tick stays.
---@param store respool.store
---@param name string
---@return integer? id, string?, string?
function M.run(store, name)
  local made = store.tick_payloads[name]
  local body, by
  if made then
    body, by = make_payload(made, name, store:now())
    if not body then return nil, by, "INVALID" end
  end
  return store.handle:schedule_run(name, body, by)
end


-- Firing.

-- One tick of a schedule whose payload is made here: whether there may be
-- another; or the seconds until there is, and what is wrong.
local function fire_made(store, name, made)
  local handle = store.handle
  local tick, message, code = handle:schedule_tick(name)
  if not tick then
    if code == "NOT_FOUND" then return false, huge end
    return false, AGAIN, message, code
  end
  if not tick.due then
    return false, tick.next_at and tick.next_at - handle:now() or huge
  end
  local body, by
  if tick.at then
    body, by = make_payload(made, name, tick.at)
    if not body then return false, AGAIN, by end
  end
  local id
  id, message, code = handle:schedule_fire(name, tick, body, by)
  if id or code == "LOCKED" then return true, id and tick.at and 1 or 0 end
  return false, AGAIN, message, code
end

-- The seconds until the next tick of those whose payload is made here.
local function fire_all_made(store, state)
  local next_in = huge
  for name, made in pairs(store.tick_payloads) do
    local more, n, message, code
    repeat
      more, n, message, code = fire_made(store, name, made)
      if more then state.fired = state.fired + n end
    until not more or store.handle:closed()
    next_in = min(next_in, n)
    state.message, state.code = message or state.message, code or state.code
  end
  return next_in
end

-- Reports a fault once, until there is another.
local function report(store, state)
  local told = store.tick_told
  store.tick_told = state.message
  if state.message and state.message ~= told then
    hooks.report(store, "schedule", state.message, state.code)
  end
end

local function fire_all(store)
  local state = { fired = 0 }
  local fired, next_in, message, code = store.handle:schedules_fire()
  if fired then
    state.fired, state.message, state.code = fired, message, code
  else -- the core's error
    state.message, state.code, next_in = next_in, message, AGAIN
  end
  if not store.handle:closed() then
    next_in = min(next_in, fire_all_made(store, state))
    state.next_at = store.handle:now() + next_in
  end
  state.look_at = core.mono() + LOOK
  store.ticks = state
  report(store, state)
end

-- Fires what is due; returns how many items were pushed.
---@param store respool.store
---@return integer
function M.fire(store)
  if store.read_only or store.firing or closing.refuses(store) then return 0 end
  local function stop()
    store.firing = nil
  end
  store.firing = true
  compat.guard(fire_all, store, stop)
  stop()
  return store.ticks.fired
end

-- Seconds until M.tick() has something to do.
---@param store respool.store
---@return number
function M.wait(store)
  if store.read_only or store.firing then return huge end
  local state = store.ticks
  local look_in = state and state.look_at - core.mono() or 0
  if look_in <= 0 then return 0 end
  local left = max(state.next_at - store.handle:now(), 0)
  return store.manual and left or min(left, look_in / 1e6)
end

-- The same as fire(), where it may be time; others' changes are seen within
-- five seconds.
---@param store respool.store
function M.tick(store)
  if M.wait(store) <= 0 then M.fire(store) end
end

return M
