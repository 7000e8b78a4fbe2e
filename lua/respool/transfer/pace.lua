-- SPDX-License-Identifier: MIT
--
-- The pace of an import: its rate, and how full the target is. A function that
-- waits returns true, false when the import is to stop meanwhile, or nil,
-- message, code.

local stats = require "respool.observe.stats"
local timing = require "respool.support.timing"

local M = {}

local PAUSE = 1  -- seconds between looks at a target that is too full
local PAGES = 10 -- a second, at most, with a rate

local function is_stopped(r)
  local hook = r.o.on_progress
  return timing.is_ending() or hook ~= nil and hook(r.counts) == false
end

-- Lets time pass.
---@param r table the import
---@param seconds number
---@return boolean?, string?, string?
function M.pause(r, seconds)
  local store, ends = r.store, r.store:now() + seconds
  while store:now() < ends do
    if is_stopped(r) then return false end
    local ok, message, code = store.handle:sleep(
      timing.slice(store, ends - store:now()))
    if not ok then return nil, message, code end
  end
  return true
end

-- Waits before another look for room.
---@return boolean?, string?, string?
function M.wait_for_room(r)
  return M.pause(r, PAUSE)
end

local function wait_for_fill(r)
  local ok = true
  while ok do
    local below, message, code = stats.is_below(r.o.to, r.o.while_below)
    if below then return true end
    if message then return nil, message, code end
    ok, message, code = M.wait_for_room(r)
    if ok == nil then return nil, message, code end
  end
  return ok
end

-- How many of `n` records to push at a time.
---@param rate number?
---@param n integer
---@return integer
function M.page(rate, n)
  return rate and math.max(1, math.floor(rate / PAGES)) or math.max(n, 1)
end

-- Waits until `n` records may be pushed, and counts them as pushed.
---@return boolean?, string?, string?
function M.wait(r, n)
  local now = r.store:now()
  local due = math.max(r.due or now, now)
  local ok, message, code = M.pause(r, due - now)
  if ok then ok, message, code = wait_for_fill(r) end
  if ok then r.due = due + (r.o.rate and n / r.o.rate or 0) end
  return ok, message, code
end

return M
