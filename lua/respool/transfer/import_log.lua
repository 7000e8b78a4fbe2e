-- SPDX-License-Identifier: MIT
--
-- The log of imported records: each dead letter or item of a store is
-- pushed to a queue once, whatever is imported twice: a file by mistake, one
-- that was half done when the process was killed, or two files that overlap.
--
-- The queue ".imports" of the target's store keeps a chart for each
-- 1,024 numbers of a source: an item that is never due, whose key names
-- source, target and range, and whose payload has 8 bytes for each number: the
-- print of the record that was imported, or zeroes. A chart is replaced in the
-- commit of the pushes it notes. One process at a time imports into a
-- store, so that none replaces what another has written.

local archive = require "respool.transfer.format"
local core = require "respool.core"

local M = {}

M.QUEUE = ".imports"

local SPAN, WIDTH = 1024, 8
local NOTHING = ("\0"):rep(WIDTH)
local NEVER = 2^33 -- the year 2242
local IGNORE, REPLACE = 1, 2

---@class respool.imported
---@field queue respool.queue
---@field prefix string
---@field charts table<integer, string> by range
---@field changed table<integer, string> to be stored with the next commit
local Imported = {}
Imported.__index = Imported

-- A lock on imports into a store; unlock() ends it.
---@param store respool.store
---@return table?, string?, string?
function M.lock(store)
  if store.path == ":memory:" then return { unlock = function() end } end
  local held, message, code = core.file.lock(store.path .. "/import.lock")
  if held then return held end
  if code == "LOCKED" then
    message = ("another process imports into store '%s'"):format(store.path)
  end
  return nil, message, code
end

-- The log of the records of a source that were pushed to a queue.
---@param target respool.queue
---@param source respool.record_source
---@return respool.imported?, string?, string?
function M.open(target, source)
  local queue, message, code = target.store:queue(M.QUEUE, { codec = "raw" })
  if not queue then return nil, message, code end
  return setmetatable({
    queue = queue, charts = {}, changed = {},
    prefix = archive.hex(core.file.sum(table.concat({
      source.store, source.kind, source.name, target.name,
    }, "\0"))),
  }, Imported)
end

local function push_options(self, range, conflict)
  return {
    key = self.prefix .. "/" .. ("%.0f"):format(range), at = NEVER,
    ttl = math.huge, on_conflict = conflict,
  }
end

-- The stored chart of a range; an empty one is made when there is none, as
-- nothing is found by its key but by pushing.
local function load(self, range)
  local id, held, code =
    self.queue.handle:push("", "raw", push_options(self, range, IGNORE))
  if not id then return nil, held, code end
  if held ~= "exists" then return "" end
  local items, message
  items, message, code = self.queue.handle:get(id)
  if not items then return nil, message, code end
  return items[1].bytes
end

local function chart(self, range)
  local known = self.changed[range] or self.charts[range]
  if known then return known end
  local message, code
  known, message, code = load(self, range)
  self.charts[range] = known
  return known, message, code
end

local function place(record)
  local n = record.number or record.id
  return math.floor(n / SPAN), n % SPAN * WIDTH
end

-- Whether a record has been pushed.
---@return boolean?, string?, string?
function Imported:has(record)
  local range, at = place(record)
  local known, message, code = chart(self, range)
  if not known then return nil, message, code end
  return known:sub(at + 1, at + WIDTH) == archive.print(record)
end

-- Notes that a record will have been, after the next commit.
---@return true?, string?, string?
function Imported:note(record)
  local range, at = place(record)
  local known, message, code = chart(self, range)
  if not known then return nil, message, code end
  known = known .. NOTHING:rep((at - #known) / WIDTH)
  self.changed[range] = known:sub(1, at) .. archive.print(record)
    .. known:sub(at + WIDTH + 1)
  return true
end

-- Notes that a record will not have been.
---@return true?, string?, string?
function Imported:forget(record)
  local range, at = place(record)
  local known, message, code = chart(self, range)
  if not known then return nil, message, code end
  self.changed[range] = known:sub(1, at) .. NOTHING
    .. known:sub(at + WIDTH + 1)
  return true
end

-- Adds the changed charts to a transaction of the core.
---@return true?, string?, string?
function Imported:add(tx)
  for range, bytes in pairs(self.changed) do
    local step, message, code = tx:push(
      self.queue.handle, { bytes }, "raw",
      push_options(self, range, REPLACE))
    if not step then return nil, message, code end
  end
  return true
end

-- The commit has happened, or with `undo` it has not.
function Imported:committed(undo)
  if not undo then self.charts = self.changed end
  self.changed = {}
end

return M
