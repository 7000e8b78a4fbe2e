-- SPDX-License-Identifier: MIT
--
-- Calls that would block yield the light thread instead. Methods of the core's
-- handles that may wait are replaced by ones that begin the same, wait for the
-- ticket as resty/respool/bell.lua says, and give what the method would have
-- given. All
-- of lua/respool stands on these methods, so all of it yields; once loaded,
-- this holds for the whole Lua state, as inside nginx nothing may ever wait.
--
-- In phases that cannot yield they answer nil, message, "PHASE"; opening in
-- init_worker_by_lua and everything in exit_worker_by_lua wait in place, as
-- there is no request that would wait with them. A call that waits for more
-- than a commit (a take, a push, work, a replay's rate) waits no longer once
-- nginx wants the worker process to end.

local bell = require "resty.respool.bell"
local core = require "respool.core"
local timing = require "respool.support.timing"

local min, select, type = math.min, select, type

local M = {}

-- Not ssl_client_hello and ssl_session_fetch: to yield there breaks every
-- handshake unless nginx itself is OpenResty's.
local YIELDS = {
  rewrite = true, server_rewrite = true, access = true, content = true,
  timer = true, ssl_cert = true, preread = true,
}

-- Whether the phase that runs may yield.
---@return boolean
function M.can_yield()
  return YIELDS[ngx.get_phase()] == true
end

-- The answer of a phase that cannot wait.
---@param what string
---@return nil, string, string
function M.refusal(what)
  return nil, ("%s has to wait, which %s_by_lua cannot"):format(
    what, ngx.get_phase()), "PHASE"
end

-- Gives others a turn. ngx.sleep(0) would write a warning at each call where
-- nginx lacks a patch of OpenResty's.
function M.let_others_run()
  ngx.sleep(0.001)
end

local SHORTEST, LONGEST = 0.001, 0.05 -- seconds between looks

local function come_back(line, batch, ...)
  if line and batch and #batch > 0 then bell.go_on(line) end
  return batch, ...
end

-- Waits until the ticket is ready. Anything else is the answer already.
local function await(ticket, ...)
  if type(ticket) ~= "userdata" then return ticket, ... end
  local line = bell.await(ticket)
  return come_back(line, ticket:finish())
end


-- Waiting in place, for no longer than somebody is patient.

---@class respool.patience
---@field ends number by core.mono()
---@field over boolean whether something was given up
local patience

-- Calls fn(...), whose verbs wait in place, for `seconds` in all: what takes
-- longer answers TIMEOUT. Nothing yields meanwhile.
---@param seconds number
---@param fn function
---@return any ...
function M.in_place(seconds, fn, ...)
  patience = { ends = core.mono() + seconds * 1e6, over = false }
  local function leave(ok, ...)
    patience = nil
    if not ok then error((...), 0) end
    return ...
  end
  return leave(pcall(fn, ...))
end

local function await_in_place(what, ticket, ...)
  if type(ticket) ~= "userdata" then return ticket, ... end
  local pause = SHORTEST
  while not ticket:poll() do
    if core.mono() >= patience.ends then
      patience.over = true
      return nil, what .. " took too long", "TIMEOUT"
    end
    core.process.nap(pause)
    pause = min(pause * 2, LONGEST)
  end
  return ticket:finish()
end


-- The methods.

-- Names in messages of verbs whose own names are not those of the API.
local NAMES = {
  flush = "a flush", drain = "a flush", push_many = "a durable push",
  push = "a durable push", commit = "a commit", queue = "opening a queue",
  stat = "store:stats", probe = "store:health",
  dead_move = "moving dead letters",
  dead_list = "listing dead letters", dead_numbers = "listing dead letters",
  dead_groups = "listing groups", dead_purge = "purging dead letters",
  dead_remove = "removing dead letters", drop = "dropping a queue",
  replay_save = "a replay", replay_cancel = "cancelling a replay",
  replay_remove = "forgetting a replay",
  schedule_save = "a schedule", schedules = "listing schedules",
  schedules_fire = "firing schedules", schedule_run = "a schedule",
  browse = "listing items", settle = "a settle", take = "a take",
  item_run_now = "queue:run_now", item_kill = "queue:kill",
  item_move = "queue:move", item_edit = "queue:edit",
  item_cancel = "queue:cancel", item_held = "item:cancelled",
  sample = "a sample", trends = "store:trend",
  item_progress = "item:progress", result = "queue:result",
  worker_start = "work", worker_seen = "work", worker_end = "work",
  worker_stop = "store:stop_worker",
}

-- A method in its two kinds as one. `early`: allowed before there are
-- requests, too.
local function verb(what, waits, starts, early)
  return function(...)
    if patience then return await_in_place(what, starts(...)) end
    local phase = ngx.get_phase()
    if YIELDS[phase] then return await(starts(...)) end
    if phase == "exit_worker" or early and phase == "init_worker" then
      return waits(...)
    end
    return M.refusal(what)
  end
end

local WAIT = 5 -- which argument of a push says how long to wait for room

-- A push that waits for room by sleeping.
local function with_room(push)
  return function(...)
    local wait = select(WAIT, ...)
    if not wait or wait <= 0 then return push(...) end
    local given = { ... }
    local result, more, code = push(unpack(given, 1, WAIT - 1))
    if code ~= "FULL" or not M.can_yield() then return result, more, code end
    ngx.sleep(wait)
    result, more, code = push(unpack(given, 1, WAIT - 1))
    return result, more, code == "FULL" and "TIMEOUT" or code
  end
end

local LONG = {}

local function say_long()
  return LONG
end

-- The short way to push is a C function, through which nothing can yield: it
-- says so when it must go the long way.
local function with_long_way(pusher)
  return function(buffer, version, native, long_way, report)
    local short = pusher(buffer, version, native, say_long, report)
    return function(queue, payload, given)
      local result = short(queue, payload, given)
      if result == LONG then return long_way(queue, payload, given) end
      return result
    end
  end
end

local function sleep(handle, seconds)
  if not M.can_yield() then return handle:sleep_in_place(seconds) end
  ngx.sleep(seconds)
  return true
end

local start_flush = core.start.store.flush

-- To close a store waits for whatever its threads are still at, a commit that
-- somebody has given up too: when that takes too long the store is left to
-- the end of the process.
local function close(handle)
  if patience and not handle:closed() then
    await_in_place("closing", start_flush(handle))
    if patience.over then return handle:abandon() end
  end
  return handle:close_in_place()
end

-- A flush in place needs no commit, so it is not held up by who holds the
-- writer lock.
local function with_place(flush, flush_in_place)
  return function(handle)
    if patience then return flush_in_place(handle) end
    return flush(handle)
  end
end


local METHODS = {
  queue = core.methods "respool.queue",
  store = core.methods "respool.store",
  buffer = core.methods "respool.buffer",
  transaction = core.methods "respool.transaction",
  batch = core.batch,
}

local flush_in_place = METHODS.store.flush
local EARLY = { store = {
  queue = true, stat = true, schedule_save = true, schedules = true,
} }

for kind, starters in pairs(core.start) do
  local methods, early = METHODS[kind], EARLY[kind] or {}
  for name, starts in pairs(starters) do
    methods[name] = verb(NAMES[name] or kind .. ":" .. name, methods[name],
                         starts, early[name])
  end
end

-- A flush that is waited for with a limit, where nothing may wait.
local function where_it_yields(what, starts)
  return function(...)
    if YIELDS[ngx.get_phase()] or ngx.get_phase() == "exit_worker" then
      return starts(...)
    end
    return M.refusal(what)
  end
end

for _, kind in ipairs { "store", "buffer" } do
  core.start[kind].flush = where_it_yields("a flush", core.start[kind].flush)
end

METHODS.queue.buffer = core.start.queue.buffer -- which waits for nothing
for _, kind in ipairs { "queue", "buffer" } do
  METHODS[kind].push = with_room(METHODS[kind].push)
end
METHODS.queue.push_many = with_room(METHODS.queue.push_many)
METHODS.buffer.fold = with_room(METHODS.buffer.fold)
METHODS.buffer.pusher = with_long_way(METHODS.buffer.pusher)
METHODS.store.sleep_in_place = METHODS.store.sleep
METHODS.store.sleep = sleep
METHODS.store.flush = with_place(METHODS.store.flush, flush_in_place)
METHODS.store.close_in_place = METHODS.store.close
METHODS.store.close = close

timing.set_pause(function(seconds)
  if M.can_yield() then return ngx.sleep(seconds) end
  core.process.nap(seconds)
end)
timing.set_listening(function(seconds)
  if M.can_yield() then return bell.listen(seconds) end
  core.process.nap(seconds)
end)
timing.set_breath(function()
  if M.can_yield() then M.let_others_run() end
end)
timing.set_every(function(seconds, fn)
  return ngx.timer.every(seconds, function(premature) fn(premature) end)
end)
timing.set_ending(function() return ngx.worker.exiting() end)
timing.set_waking(bell.stir)

local open = core.open

-- All stores of the process ring its bell.
function core.open(...)
  local store, message, code = open(...)
  if store then bell.hang(store) end
  return store, message, code
end

return M
