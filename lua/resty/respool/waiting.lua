-- SPDX-License-Identifier: MIT
--
-- What waits, yields. Methods of the core's handles that may wait are replaced
-- by ones that begin the same, poll its ticket between short sleeps, and give
-- what the method would have given. All of lua/respool stands on these
-- methods, so all of it yields; once loaded, this holds for the whole Lua
-- state, as inside nginx nothing may ever wait.
--
-- In phases that cannot yield they answer nil, message, "PHASE"; opening in
-- init_worker_by_lua and everything in exit_worker_by_lua wait in place, as
-- there is no request that would wait with them.

local core = require "respool.core"

local min, select, type = math.min, select, type

local M = {}

local YIELDS = {
  rewrite = true, server_rewrite = true, access = true, content = true,
  timer = true, ssl_cert = true, ssl_session_fetch = true,
  ssl_client_hello = true, preread = true,
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

local SHORTEST, LONGEST = 0.001, 0.05 -- seconds between looks

-- Polls until the ticket is ready. What is no ticket is the answer already.
local function await(ticket, ...)
  if type(ticket) ~= "userdata" then return ticket, ... end
  local pause = SHORTEST
  while not ticket:poll() do
    ngx.sleep(pause)
    pause = min(pause * 2, LONGEST)
  end
  return ticket:finish()
end

-- A method in its two kinds as one. `early`: allowed before there are
-- requests, too.
local function verb(name, waits, starts, early)
  return function(...)
    local phase = ngx.get_phase()
    if YIELDS[phase] then return await(starts(...)) end
    if phase == "exit_worker" or early and phase == "init_worker" then
      return waits(...)
    end
    return M.refusal(name)
  end
end

local WAIT = 13 -- which argument of a push says how long to wait for room

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


local METHODS = {
  queue = core.methods "respool.queue",
  store = core.methods "respool.store",
  buffer = core.methods "respool.buffer",
  transaction = core.methods "respool.transaction",
  lot = core.lot,
}

local EARLY = { store = { queue = true, stat = true } }

for kind, starters in pairs(core.start) do
  local methods, early = METHODS[kind], EARLY[kind] or {}
  for name, starts in pairs(starters) do
    methods[name] = verb(kind .. ":" .. name, methods[name], starts,
                         early[name])
  end
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

return M
