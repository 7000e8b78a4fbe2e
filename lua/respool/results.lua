-- SPDX-License-Identifier: MIT
--
-- Results of finished items that a queue keeps, and waiting for them.

local codec = require "respool.support.codec"
local compat = require "respool.support.compat"
local core = require "respool.core"
local dead_letters = require "respool.dead"
local timing = require "respool.support.timing"

local huge, max, min = math.huge, math.max, math.min

local M = {}

-- Looks at what nobody tells: at first after 10 ms, then ever more rarely, a
-- tenth of the time that was waited already, once a second at last.
local FIRST, LAST = 0.01, 1
local SLICE = 0.05 -- seconds of a wait in the core
local APART = 0.01 -- seconds between two looks inside a host, at least
local PAGE = 100   -- dead letters looked at together

-- The result of the handler of an item; true if it returned nothing.
---@param queue respool.queue
---@param id integer
---@return any, string?, string?
function M.get(queue, id)
  local items, message, code = queue.handle:result(id)
  if not items then return nil, message, code end
  local bytes = items[1].bytes
  if bytes == "" then return true end
  local value, problem = codec.decode(codec.default, bytes)
  if value == nil then return nil, problem, "CORRUPT" end
  return value
end


-- Deaths.

-- The last number of each DLQ.
local function last_numbers(store)
  local names, message, code = store:dead_letter_queues()
  if not names then return nil, message, code end
  local last = {}
  for _, name in ipairs(names) do
    local list
    list, message, code = store:dead(name):list { order = "newest", limit = 1 }
    if not list then return nil, message, code end
    last[name] = list[1] and list[1].number or 0
  end
  return last
end

-- The dead letter of an item in one DLQ, the newest first, back to number
-- `last`; false: there is none.
local function find_in(queue, dead, id, last)
  local after
  repeat
    local list, message, code = dead:list {
      order = "newest", limit = PAGE, after = after,
    }
    if not list then return nil, message, code end
    for _, dead_letter in ipairs(list) do
      after = dead_letter.number
      if after <= last then return false end
      if dead_letter.id == id and dead_letter.queue == queue.name then
        return dead_letter
      end
    end
    timing.breathe()
  until #list == 0
  return false
end

-- The same in any DLQ.
local function find_death(queue, id, last)
  local names, message, code = queue.store:dead_letter_queues()
  if not names then return nil, message, code end
  for _, name in ipairs(names) do
    local found
    found, message, code = find_in(
      queue, dead_letters.new(queue.store, name, queue.codec), id,
      last[name] or 0)
    if found ~= false then return found, message, code end
  end
  return false
end

-- The end of an item that is in the queue no more, and has no result.
local function tell_end(queue, id, last)
  local dead, message, code = find_death(queue, id, last)
  if dead == nil then return nil, message, code end
  if not dead then
    return nil, ("item %d of queue '%s' is over without a result: it was "
      .. "cancelled, removed or moved, or is not kept any more"):format(
        id, queue.name), "NOT_FOUND"
  end
  return nil, ("item %d of queue '%s' died, %s: %s"):format(
    id, queue.name, dead.reason, dead.error or "no error"), "DEAD", dead
end


-- Waiting.

-- Waits in the core for commits, or where a host runs others in this thread,
-- as it says, with a look at the core behind that.
local function wait_slice(queue, seen, seconds)
  if not timing.is_shared() then return queue.handle:wait(seen, seconds) end
  timing.listen(seconds)
  return queue.handle:wait(seen, 0)
end

-- Lets `seconds` pass, or returns when something was committed; what has been
-- seen of that.
local function wait(queue, seen, seconds)
  local ends = timing.deadline(seconds)
  if timing.is_shared() then timing.pause(min(seconds, APART)) end
  while true do
    local left = timing.left(ends)
    if left <= 0 then return seen end
    local now, message, code = wait_slice(queue, seen, min(left, SLICE))
    if now ~= seen then return now, message, code end
  end
end

local function is_over(queue, id)
  local items, message, code = queue.handle:get(id)
  if items then return false end
  if code == "NOT_FOUND" then return true end
  return nil, message, code
end

-- Whether the item is over by now, and what await() returns of it then; nil,
-- message, code after an error. `last` are the numbers of DLQs from before it
-- was seen alive. `alive`: nobody asks whether it is still in the queue.
local function look(queue, id, last, alive)
  local value, message, code = M.get(queue, id)
  if value ~= nil then return true, value end
  if code ~= "NOT_FOUND" then return nil, message, code end
  if alive then return false end
  local over
  over, message, code = is_over(queue, id)
  if not over then return over, message, code end
  value, message, code = M.get(queue, id) -- done between the two looks?
  if value ~= nil then return true, value end
  if code ~= "NOT_FOUND" then return nil, message, code end
  return true, tell_end(queue, id, last)
end

local function check_keeps(queue)
  local config, message, code = queue.handle:config()
  if not config then return nil, message, code end
  if config.keep_done <= 0 then
    compat.misuse(("queue:await: queue '%s' keeps no finished items: set its "
      .. "keep_done"):format(queue.name))
  end
  return true
end

-- The result of a look that found the item over, or an error.
local function conclude(over, value, ...)
  if over and value ~= nil then return value end
  if over then return nil, ... end
  return nil, value, ...
end

-- The item was not over in time. With a manual clock nothing comes by itself: a
-- wait moves the clock to its own end, an endless one ends at once.
local function late(queue, id, timeout)
  if queue.store.manual and timeout > 0 and timeout < huge then
    local ok, message, code = queue.store.handle:sleep(timeout)
    if not ok then return nil, message, code end
  end
  return nil, ("item %d of queue '%s' is not over yet"):format(id, queue.name),
    "TIMEOUT"
end

---@param queue respool.queue
---@param id integer
---@param timeout number seconds
---@return any, string?, string?, respool.dead_letter?
function M.await(queue, id, timeout)
  local ok, message, code = check_keeps(queue)
  if not ok then return nil, message, code end
  local began, ends, seen, last = core.mono(), timing.deadline(timeout), 0, {}
  local before, problem, what = last_numbers(queue.store)
  if not before then return nil, problem, what end
  local looked = -huge
  while true do
    local waited = (core.mono() - began) / 1e6
    local slice = max(FIRST, min(LAST, waited / 10))
    local alive = waited - looked < min(slice, SLICE)
    local found = { look(queue, id, last, alive) }
    if found[1] ~= false then return conclude(compat.unpack(found, 1, 5)) end
    if not alive then looked, last = waited, before end
    local left = queue.store.manual and 0 or timing.left(ends)
    if left <= 0 or timing.is_ending() then return late(queue, id, timeout) end
    seen, message, code = wait(queue, seen, min(left, slice))
    if not seen then return nil, message, code end
  end
end

return M
