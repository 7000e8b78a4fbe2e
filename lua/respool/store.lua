-- SPDX-License-Identifier: MIT
--
-- Stores: opening, closing, and what concerns more than one queue.

local core = require "respool.core"
local codec = require "respool.codec"
local dead = require "respool.dead"
local options = require "respool.options"
local queue = require "respool.queue"
local replay = require "respool.replay"

local M = {}

---@class respool.store
---@field path string
---@field manual boolean whether its clock is moved by hand
---@field max_item_bytes integer
---@field handle userdata
---@field lots table<respool.lot, true> open ones, weak
---@field queues_open table<respool.queue, true> weak
local Store = { __name = "respool.store" }
Store.__index = Store

local function path_of(value)
  if type(value) == "string" and value ~= ""
     and not value:find("\0", 1, true) then
    return value
  end
  return nil, "a path"
end

---@class respool.open_options
---@field sync "commit"|"relaxed"|"none"?
---@field create boolean? false: NOT_FOUND when there is no store
---@field clock "manual"? time stands still until advance() moves it
---@field max_readers integer?
---@field max_bytes integer|string?
---@field max_item_bytes integer|string?
---@field seed integer? of the jitter
local FORM = {
  of = "respool.open",
  sync = options.choice { commit = 0, relaxed = 1, none = 2 },
  create = options.boolean,
  clock = options.choice { manual = true },
  max_readers = options.whole(1, 2^31 - 1),
  max_bytes = options.size,
  max_item_bytes = options.size,
  seed = options.whole(0, 2^53 - 1),
}

local MAX_ITEM_BYTES = 64 * 2^20 -- the core's default

-- The core draws a seed of its own for 0.
local function core_options(o)
  return {
    sync = o.sync, no_create = o.create == false, manual_clock = o.clock,
    max_readers = o.max_readers, max_bytes = o.max_bytes,
    max_item_bytes = o.max_item_bytes, seed = o.seed and o.seed + 1,
  }
end

local function weak()
  return setmetatable({}, { __mode = "k" })
end

-- Opens the store in a directory, which is made when missing; ":memory:"
-- keeps nothing.
---@param path string
---@param given respool.open_options?
---@return respool.store?, string?, string?
function M.open(path, given)
  options.argument(1, "respool.open", path, path_of)
  local o = options.read(FORM, given, 2)
  local handle, message, code = core.open(path, core_options(o))
  if not handle then return nil, message, code end
  return setmetatable({
    path = path, manual = o.clock == true, handle = handle,
    max_item_bytes = o.max_item_bytes or MAX_ITEM_BYTES,
    lots = weak(), queues_open = weak(),
  }, Store)
end

-- Opens a queue, making it when missing. Options that are a policy are
-- stored; what is not given stays as stored.
---@param name string
---@param given table?
---@return respool.queue?, string?, string?
function Store:queue(name, given)
  local q, message, code = queue.open(self, name, given)
  if q then self.queues_open[q] = true end
  return q, message, code
end

-- Names of the queues there are.
---@return string[]?, string?, string?
function Store:queues()
  return self.handle:queues()
end

-- Names of the boxes that hold or held letters.
---@return string[]?, string?, string?
function Store:boxes()
  return self.handle:boxes()
end

-- Removes a queue with everything in it; its box stays.
---@param name string
---@return true?, string?, string?
function Store:drop_queue(name)
  options.argument(1, "store:drop_queue", name, options.name)
  return self.handle:drop(name)
end

local BOX = { of = "store:dead", codec = codec.kind }

-- The letters of a box.
---@param box string
---@param given { codec: any }?
---@return respool.dead
function Store:dead(box, given)
  options.argument(1, "store:dead", box, options.name)
  local o = options.read(BOX, given, 2)
  return dead.new(self, box, o.codec or codec.default)
end

-- The replay jobs there are.
---@return table[]?, string?, string?
function Store:jobs()
  local names, message, code = self.handle:job_names()
  if not names then return nil, message, code end
  local jobs = {}
  for _, name in ipairs(names) do
    jobs[#jobs + 1] = replay.job(self, name)
  end
  return jobs
end

-- A replay job: its counts, and its state "running", "stopped", "finished".
---@param name string
---@return table?, string?, string?
function Store:job(name)
  options.argument(1, "store:job", name, options.name)
  return replay.job(self, name)
end

-- Forgets a replay job; letters stay where they are.
---@param name string
---@return true?, string?, string?
function Store:remove_job(name)
  options.argument(1, "store:remove_job", name, options.name)
  return self.handle:job_remove(name)
end

-- A durability barrier: what was committed before is on disk.
---@return true?, string?, string?
function Store:flush()
  return self.handle:flush()
end

---@return table?, string?, string?
function Store:stats()
  return self.handle:stat()
end

-- The time by this store's clock, in seconds since 1970.
---@return number
function Store:now()
  return self.handle:now()
end

local function is_step(value)
  if type(value) == "number" and value > -2^43 and value < 2^43 then
    return value
  end
  return nil, "a number of seconds"
end

-- Moves a manual clock; below zero, back.
---@param seconds number
---@return true?, string?, string?
function Store:advance(seconds)
  options.argument(1, "store:advance", seconds, is_step)
  return self.handle:advance(seconds)
end

-- Verifies invariants and checksums; returns what is wrong, a line each.
---@return string[]?, string?, string?
function Store:check()
  return self.handle:check()
end

-- Settles what open lots have marked and releases the rest.
local function close_lots(store)
  local ok, message, code = true, nil, nil
  for lot in pairs(store.lots) do
    local closed, m, c = lot:close()
    if ok and not closed then ok, message, code = nil, m, c end
  end
  return ok, message, code
end

-- Closes the store with its queues and lots: work on it stops, what is
-- marked is settled, other leases are released, everything is flushed. The
-- store is closed whatever comes of it. A second close does nothing.
---@return true?, string?, string?
function Store:close()
  if self.handle:closed() then return true end
  for q in pairs(self.queues_open) do q:stop() end
  local ok, message, code = close_lots(self)
  local flushed, m, c = self.handle:flush()
  self.handle:close()
  if ok and not flushed then return nil, m, c end
  return ok, message, code
end

-- Leaving the scope closes the store; what could not be settled is raised,
-- unless another error is on its way or this is another process.
function Store:__close(err)
  local ok, message, code = self:close()
  if not ok and err == nil and code ~= "FORKED" then
    error("respool: " .. message, 0)
  end
end

function Store:__tostring()
  local state = self.handle:closed() and " (closed)" or ""
  return ("respool store %s%s"):format(self.path, state)
end

return M
