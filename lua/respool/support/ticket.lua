-- SPDX-License-Identifier: MIT
--
-- Calls with a limit of time: begun in a thread of the core, and asked about
-- until they are ready or the time is over. Then the thread goes on.

local core = require "respool.core"
local timing = require "respool.support.timing"

local min = math.min

local M = {}

local SHORTEST, LONGEST = 0.001, 0.02 -- seconds between looks

-- Waits until a ticket is ready; false when it is not by then.
---@param ticket userdata
---@param ends number as timing.deadline() tells it
---@return boolean
function M.await(ticket, ends)
  local pause = SHORTEST
  while not ticket:poll() do
    local left = timing.left(ends)
    if left <= 0 then return false end
    timing.pause(min(pause, left))
    pause = min(pause * 2, LONGEST)
  end
  return true
end

-- The results of a flush that was begun; TIMEOUT when it takes too long: it
-- goes on then.
---@param timeout number seconds
---@param ticket userdata?
---@return true?, string?, string?
function M.flush(timeout, ticket, message, code)
  if type(ticket) ~= "userdata" then return ticket, message, code end
  if M.await(ticket, timing.deadline(timeout)) then return ticket:finish() end
  return nil, ("the flush takes longer than %ss, and goes on"):format(
    core.decimal(timeout)), "TIMEOUT"
end

return M
