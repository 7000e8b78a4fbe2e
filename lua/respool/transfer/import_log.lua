-- SPDX-License-Identifier: MIT
--
-- The log of imported records: each dead letter or item of a store is
-- pushed to a queue once, whatever is imported twice: a file by mistake, one
-- that was half done when the process was killed, or two files that overlap.
--
-- The target's store keeps a chart for each 1,024 numbers of a source: a note
-- whose name tells source, target and range, with 8 bytes for each number: the
-- print of the record that was imported, or zeroes. A chart is replaced in the
-- commit of the pushes it notes. One process at a time imports into a
-- store, so that none replaces what another has written.

local archive = require "respool.transfer.format"
local core = require "respool.core"
local lock = require "respool.transfer.lock"

local M = {}

local SPAN, WIDTH = 1024, 8
local NOTHING = ("\0"):rep(WIDTH)
local HEAD = "import "

---@class respool.imported
---@field store respool.store
---@field prefix string
---@field charts table<integer, string> by range
---@field changed table<integer, string> to be stored with the next commit
local Imported = {}
Imported.__index = Imported

-- A lock on imports into a store; unlock() ends it.
---@param store respool.store
---@return table?, string?, string?
function M.lock(store)
  return lock.take(store, "import", "another process imports into")
end

-- The log of the records of a source that were pushed to a queue.
---@param target respool.queue
---@param source respool.record_source
---@return respool.imported
function M.open(target, source)
  local _, digits = core.file.sum(table.concat({
    source.store, source.kind, source.name, target.name,
  }, "\0"))
  return setmetatable({
    store = target.store, charts = {}, changed = {}, prefix = HEAD .. digits,
  }, Imported)
end

-- Forgets what was imported into a store.
---@param store respool.store
---@return true?, string?, string?
function M.forget(store)
  local names, message, code = store.handle:note_names()
  if not names then return nil, message, code end
  for _, name in ipairs(names) do
    if name:sub(1, #HEAD) == HEAD then
      local ok
      ok, message, code = store.handle:note_remove(name)
      if not ok then return nil, message, code end
    end
  end
  return true
end

local function name_of(self, range)
  return self.prefix .. "/" .. ("%.0f"):format(range)
end

-- The stored chart of a range; empty when there is none.
local function load(self, range)
  local bytes, message, code =
    self.store.handle:note_load(name_of(self, range))
  if code == "NOT_FOUND" then return "" end
  return bytes, message, code
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
    local step, message, code = tx:note(name_of(self, range), bytes)
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
