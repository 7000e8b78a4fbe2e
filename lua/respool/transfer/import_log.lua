-- SPDX-License-Identifier: MIT
--
-- The log of imported records: each dead letter or item of a store is
-- pushed to a queue once, even if it is imported twice: a file by mistake, one
-- that was half done when the process was killed, or two files that overlap.
--
-- The target's store keeps a chart for each 1,024 numbers of a source: a note
-- whose name tells source, target and range, with 8 bytes for each number: the
-- print of the record that was imported, or zeroes. A chart is replaced in the
-- commit of the pushes it notes. One process at a time imports into a
-- store, so that none replaces another's charts.

local core = require "respool.core"
local lock = require "respool.transfer.lock"

local M = {}

local SPAN, WIDTH = 1024, 8
local NOTHING = ("\0"):rep(WIDTH)
local HEAD = "import "

---@class respool.imported
---@field store respool.store
---@field prefix string
---@field charts table<integer, respool.import_chart> by range
---@field changed table<integer, respool.import_chart> to be stored with the
--- next commit
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

-- A chart: its bytes, and the prints put into it since, by number in its range.
---@class respool.import_chart
---@field bytes string
---@field prints table<integer, string>?

-- The stored chart of a range; empty when there is none.
local function load(self, range)
  local bytes, message, code =
    self.store.handle:note_load(name_of(self, range))
  if code == "NOT_FOUND" then return { bytes = "" } end
  if not bytes then return nil, message, code end
  return { bytes = bytes }
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
  return math.floor(n / SPAN), n % SPAN
end

-- Whether a record with this print has been pushed.
---@param record table
---@param print string
---@return boolean?, string?, string?
function Imported:has(record, print)
  local range, slot = place(record)
  local known, message, code = chart(self, range)
  if not known then return nil, message, code end
  local put = known.prints and known.prints[slot]
  if put then return put == print end
  return known.bytes:sub(slot * WIDTH + 1, slot * WIDTH + WIDTH) == print
end

local function put(self, record, print)
  local range, slot = place(record)
  local known, message, code = chart(self, range)
  if not known then return nil, message, code end
  local changed = self.changed[range]
  if not changed then
    changed = { bytes = known.bytes, prints = {} }
    self.changed[range] = changed
  end
  changed.prints[slot] = print
  return true
end

-- Notes that a record will have been, after the next commit.
---@param record table
---@param print string
---@return true?, string?, string?
function Imported:note(record, print)
  return put(self, record, print)
end

-- Notes that a record will not have been.
---@return true?, string?, string?
function Imported:forget(record)
  return put(self, record, NOTHING)
end

-- Puts the prints into the bytes.
local function settle(chart_of)
  local bytes, prints = chart_of.bytes, chart_of.prints
  local last = math.floor(#bytes / WIDTH) - 1
  for slot in pairs(prints) do last = math.max(last, slot) end
  local cells = {}
  for slot = 0, last do
    cells[slot + 1] = prints[slot]
      or slot * WIDTH < #bytes and bytes:sub(slot * WIDTH + 1,
                                             slot * WIDTH + WIDTH)
      or NOTHING
  end
  chart_of.bytes, chart_of.prints = table.concat(cells), nil
end

-- Adds the changed charts to a transaction of the core.
---@return true?, string?, string?
function Imported:add(tx)
  for range, changed in pairs(self.changed) do
    settle(changed)
    local step, message, code = tx:note(name_of(self, range), changed.bytes)
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
