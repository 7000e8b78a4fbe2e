-- SPDX-License-Identifier: MIT
--
-- Maintenance, which any process may do for a store now and then, and
-- compaction, for a store that is open nowhere. Takes do the urgent part by
-- themselves; this expires items that nobody takes, applies retention to dead
-- letters and history, frees the reader slots of dead processes, ends the
-- leases of workers that died, fires schedules, and runs the replays in the
-- background that are due.

local core = require "respool.core"
local background = require "respool.replay.background"
local hooks = require "respool.observe.hooks"
local options = require "respool.support.options"
local schedules = require "respool.produce.schedules"
local trend = require "respool.observe.trend"
local workers = require "respool.consume.workers"

local huge, max = math.huge, math.max

local M = {}

---@class respool.maintenance
---@field expired integer items that outlived their TTL
---@field dead_letters integer removed: beyond keep_dead
---@field history integer removed: beyond keep_done
---@field windows integer keys whose dedup window has closed
---@field readers integer slots of dead processes freed
---@field ticks integer of schedules that were fired
---@field replays integer turns that replays in the background have had
---@field more boolean the time ran out before the work

local FORM = { of = "store:maintain", seconds = options.positive_seconds }

-- Lets replays that are due have their turns until none is, or the time is
-- over.
local function replay(store, ends)
  local turns = 0
  while not store.closing and background.wait(store) <= 0 do
    if core.mono() >= ends then return turns, true end
    background.tick(store)
    turns = turns + 1
  end
  return turns, false
end

-- Cares for a store; `seconds` bounds the time of the call.
---@param store respool.store
---@param given { seconds: number? }?
---@return respool.maintenance?, string?, string?
---@nodiscard
function M.maintain(store, given)
  local o = options.read(FORM, given, 1)
  local ends = o.seconds and core.mono() + o.seconds * 1e6 or huge
  local maintenance, message, code = store.handle:maintain(
    o.seconds and max(o.seconds, 0.001))
  if not maintenance then return nil, message, code end
  maintenance.ticks = schedules.fire(store)
  workers.bury_dead(store)
  trend.sample(store)
  local late
  maintenance.replays, late = replay(store, ends)
  maintenance.more = maintenance.more or late
  hooks.log(store, "debug", "maintained", maintenance)
  return maintenance
end


-- Compaction.

local function directory(value)
  if type(value) == "string" and value ~= "" and value ~= ":memory:"
     and not value:find("\0", 1, true) then
    return value
  end
  return nil, "the name of a directory"
end

local COMPACT = { of = "respool.compact", to = directory }

---@class respool.compaction
---@field before integer bytes of the data file
---@field after integer

-- Rewrites the data file of a store without its free pages, since the file
-- never shrinks by itself. LOCKED when any process has the store open. With
-- `to` the new file is made in that directory: a backup, consistent while other
-- processes work on the store; EXISTS when there is a store already.
---@param path string
---@param given { to: string? }?
---@return respool.compaction?, string?, string?
---@nodiscard
function M.compact(path, given)
  options.argument(1, "respool.compact", path, directory)
  return core.compact(path, options.read(COMPACT, given, 2).to)
end

return M
