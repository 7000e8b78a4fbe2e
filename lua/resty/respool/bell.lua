-- SPDX-License-Identifier: MIT
--
-- Waiting for tickets without looking at each again and again. The core rings
-- a bell when tickets of this process may have become ready, or it has
-- committed something: it writes to a socket, which one light thread of the
-- process reads (the ringer), in a timer of its own. A light thread that
-- waits for a ticket sleeps on a semaphore.
--
-- Takes that wait for items of one queue stand in a line, of which only the
-- first is asked whether there are any: it then runs, and if it comes back
-- with items those behind it are asked, two for each. So consumers that are
-- idle cost nothing, and a push wakes one of them.
--
-- Commits of other processes ring no bell. While takes wait, the timer's first
-- thread looks now and then, ever more rarely (a beat). It also looks where
-- there is no bell: without a socket, or for a store that rings none.

local core = require "respool.core"
local semaphore = require "ngx.semaphore"

core.home(debug.getinfo(1, "S").source)

local max, min = math.max, math.min

local M = {}

local SHORTEST, LONGEST = 0.001, 0.05 -- seconds between beats
local IDLE = 0.5   -- the same while no take waits
local QUIET = 1    -- seconds without anybody who waits, after which it ends
local LATE = 2     -- seconds after which a beat is missing
local GIVEN_UP = 10 -- seconds that nobody waits without looking for himself
local LONG = 3     -- seconds of waiting for another process that are logged
local NEVER = 2^31 - 1 -- milliseconds

---@class respool.waiter
---@field ticket userdata
---@field semaphore table its light thread sleeps on it
---@field line table? the line it stands in, or stood in
---@field woken boolean?

local flying = {} -- waiters whose tickets run
local listeners = {} -- semaphores of those who wait for a commit
local lines = {}  -- of waiters whose takes wait, by queue
local free = {}   -- semaphores

-- The bell of this process, once there is one; the stores that ring it.
local bell
local stores = setmetatable({}, { __mode = "k" })

-- The timer: "none", "armed" or "running"; when it last did something.
local state, seen, run_number = "none", 0, 0
local sleeper = semaphore.new(0) -- of the beat
local pause = SHORTEST

local function now()
  return core.mono() / 1e6
end

local function wake(waiter)
  waiter.woken = true
  waiter.semaphore:post(1)
end

-- Whether its light thread is still there: one that was killed waits no more.
local function is_awaited(waiter)
  return not waiter.woken and waiter.semaphore:count() < 0
end


-- Looking.

local function land(waiter)
  flying[waiter] = nil
  if waiter.line then waiter.line.running = waiter.line.running - 1 end
  if is_awaited(waiter) then wake(waiter) end
end

local function first_of(line)
  while line.first <= line.last do
    local waiter = line[line.first]
    if is_awaited(waiter) then return waiter end
    line[line.first] = nil
    line.first = line.first + 1
  end
end

-- Asks the first of a line; false when there is nothing for it.
local function advance(line)
  local waiter = first_of(line)
  if not waiter then return false end
  local ready = waiter.ticket:poll()
  if not ready and waiter.ticket:waits() then return false end
  line[line.first] = nil
  line.first = line.first + 1
  line.running = line.running + 1
  flying[waiter] = true
  if ready then land(waiter) end
  return true
end

-- A line starts one take, and more only when takes bring items.
local function look_at_line(line)
  local starts = line.bonus + (line.running == 0 and 1 or 0)
  line.bonus = 0
  while starts > 0 and advance(line) do starts = starts - 1 end
end

local function look()
  for waiter in pairs(flying) do
    if waiter.ticket:poll() then land(waiter) end
  end
  for key, line in pairs(lines) do
    look_at_line(line)
    if line.running == 0 and not first_of(line) then lines[key] = nil end
  end
end

-- Seconds until the next beat.
local function next_beat()
  if not next(lines) and (bell or not next(flying)) then
    return ngx.worker.exiting() and LONGEST or IDLE
  end
  local wait = pause
  pause = min(pause * 2, LONGEST)
  for _, line in pairs(lines) do
    local waiter = first_of(line)
    if waiter then
      local _, due = waiter.ticket:waits()
      wait = min(wait, due or wait)
    end
  end
  return max(wait, SHORTEST)
end

-- Takes that wait come back with nothing: their callers look whether to go on.
function M.stir()
  for _, line in pairs(lines) do
    for i = line.first, line.last do
      local waiter = line[i]
      waiter.ticket:give_up()
      if is_awaited(waiter) then wake(waiter) end
    end
  end
end


-- The timer.

local function connect(made)
  local socket = ngx.socket.tcp()
  socket:settimeouts(1000, 1000, NEVER)
  local connected = socket:connect("unix:" .. made:path())
  if not made:accept() or not connected then return nil end
  return socket
end

local function tell_listeners()
  for asleep in pairs(listeners) do asleep:post(1) end
  listeners = {}
end

-- Reads what the core writes.
local function ring()
  local made = core.bell()
  local socket = made and connect(made)
  if not socket then return end
  bell = made
  for store in pairs(stores) do
    if not store:closed() then store:wake(bell) end
  end
  local heard, why
  repeat
    heard, why = socket:receiveany(4096)
    pause = SHORTEST
    look()
    tell_listeners()
  until not heard and why ~= "timeout"
  bell = nil
end

-- Light threads that were killed listen no more.
local function anybody_listens()
  for asleep in pairs(listeners) do
    if asleep:count() < 0 then return true end
    listeners[asleep] = nil
  end
  return false
end

local function nobody_waits()
  return not next(flying) and not next(lines) and not anybody_listens()
end

-- It ends when nobody has waited for a while, so that neither a worker process
-- that is to end waits for it, nor a Lua state of lua_code_cache off.
local function is_over(since)
  return nobody_waits()
    and (ngx.worker.exiting() or now() - since > QUIET)
end

local function beat(number)
  local since = now() -- when somebody was waiting last
  while number == run_number and not is_over(since) do
    seen = now()
    if ngx.worker.exiting() then M.stir() end
    look()
    if not nobody_waits() then since = seen end
    sleeper:wait(next_beat())
  end
end

local function run(_, number)
  if number ~= run_number then return end
  state = "running"
  local ringer = ngx.thread.spawn(ring)
  beat(number)
  ngx.thread.kill(ringer)
  if number ~= run_number then return end
  state, bell = "none", nil
end

-- Whether the timer does its work; starts it when it does not.
local function is_alive()
  if state ~= "none" and now() - seen < LATE then return state == "running" end
  run_number, seen, state = run_number + 1, now(), "armed"
  if not ngx.timer.at(0, run, run_number) then state = "none" end
  return false
end

-- Has a beat come at once, after which they come often again.
local function hurry()
  pause = SHORTEST
  if sleeper:count() < 0 then sleeper:post(1) end
end


-- Waiting.

local function line_of(key)
  local line = lines[key]
  if not line then
    line = { first = 1, last = 0, running = 0, bonus = 0 }
    lines[key] = line
  end
  return line
end

local function stand(waiter, key)
  local line = line_of(key)
  waiter.line = line
  line.last = line.last + 1
  line[line.last] = waiter
end

-- Asks for itself, when nobody has woken it for long.
local function see_to(waiter)
  if not waiter.ticket:poll() then return end
  if flying[waiter] then land(waiter) end
  waiter.woken = true
end

-- Sleeps until it is woken, or for a while.
local function sleep(waiter, seconds)
  waiter.semaphore:wait(seconds)
  if not waiter.woken then see_to(waiter) end
end

-- Logs on whom a call waits, at most each LONG seconds.
local logged = -LONG

local function tell_of_wait(waiter)
  local whom = now() - logged >= LONG and waiter.ticket:whom()
  if not whom then return end
  logged = now()
  ngx.log(ngx.WARN, "respool: waiting for ", whom, ", which uses the store")
end

local function sleep_until_woken(waiter)
  local patience, told = SHORTEST, nil
  local tells = now() + LONG
  while not waiter.woken do
    local _, _, left = waiter.ticket:waits()
    local most = told and GIVEN_UP or LONG
    if not is_alive() then
      most, patience = patience, min(patience * 2, LONGEST)
    end
    sleep(waiter, min(left or most, most))
    if not (told or waiter.woken) and now() >= tells then
      told = true
      tell_of_wait(waiter)
    end
  end
end

-- Waits until a ticket is ready. The phase has to be one that can yield.
---@param ticket userdata
---@return table? line of a take that waited
function M.await(ticket)
  if ticket:poll() then return end
  local key = ticket:waits()
  local waiter = {
    ticket = ticket,
    semaphore = table.remove(free) or semaphore.new(0),
  }
  if key or not bell then hurry() end
  if key then stand(waiter, key) else flying[waiter] = true end
  sleep_until_woken(waiter)
  if waiter.semaphore:count() == 0 then free[#free + 1] = waiter.semaphore end
  return waiter.line
end

-- Sleeps until this process commits something, or for a while.
---@param seconds number
function M.listen(seconds)
  local asleep = table.remove(free) or semaphore.new(0)
  is_alive()
  listeners[asleep] = true
  asleep:wait(seconds)
  listeners[asleep] = nil
  if asleep:count() == 0 then free[#free + 1] = asleep end
end

-- A take that waited has brought items: there may be more for others.
---@param line table
function M.go_on(line)
  line.bonus = line.bonus + 2
  look_at_line(line)
end

-- A store of this process is to ring.
---@param store userdata
function M.hang(store)
  stores[store] = true
  if bell then store:wake(bell) end
end

return M
