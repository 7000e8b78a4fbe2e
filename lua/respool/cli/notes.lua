-- SPDX-License-Identifier: MIT
--
-- Notes: state that commands keep in the store, such as how far a file has
-- been pushed. A note is an item of the queue ".notes" with a key of its own. A
-- newer note replaces it in the same commit as the work it describes. Notes are
-- scheduled for a time in the far future, so no take delivers them.

local arguments = require "respool.cli.arguments"

local check = arguments.check

local M = {}

M.QUEUE = ".notes"

local NEVER = 100 * 365 * 86400 -- seconds until a note would be ready
local KEY, TAIL = 255, 200      -- bytes of a key, and of what it keeps if cut

-- A key for a name of any length.
local function key_of(kind, name)
  local key = kind .. " " .. name
  if #key <= KEY then return key end
  return ("%s %d %s"):format(kind, #name, name:sub(-TAIL))
end

-- The queue of notes; nil before the first note.
local function opened(store)
  local queue, message, code = store:queue(M.QUEUE, { create = false })
  if code == "NOT_FOUND" then return nil end
  return check(queue, message, code)
end

local function find(store, kind, name)
  local queue, found = opened(store), nil
  if not queue then return nil end
  for item in queue:each() do
    local note = item.payload
    if note.kind == kind and note.name == name then found = item end
  end
  return found, queue
end

-- The note of this kind and name, as it was put; nil when there is none.
---@param store respool.store
---@param kind string
---@param name string
---@return table?
function M.get(store, kind, name)
  local item = find(store, kind, name)
  return item and item.payload.note
end

-- The queue to put notes into.
---@param store respool.store
---@return respool.queue
function M.open(store)
  return (check(store:queue(M.QUEUE)))
end

-- Puts a note into the commit of a transaction.
---@param tx respool.transaction
---@param queue respool.queue as open() returns it
---@param kind string
---@param name string
---@param note table
function M.put(tx, queue, kind, name, note)
  tx:push(queue, { kind = kind, name = name, note = note }, {
    key = key_of(kind, name), on_conflict = "replace", delay = NEVER,
  })
end

-- Puts a note by itself.
---@param store respool.store
---@param kind string
---@param name string
---@param note table
function M.save(store, kind, name, note)
  local queue = M.open(store)
  check(store:transaction(function(tx)
    M.put(tx, queue, kind, name, note)
  end))
end

-- Removes a note; false when there is none.
---@param store respool.store
---@param kind string
---@param name string
---@return boolean
function M.remove(store, kind, name)
  local item, queue = find(store, kind, name)
  if not item then return false end
  return queue:remove(item.id) == true
end

return M
