-- SPDX-License-Identifier: MIT
--
-- Notes: state that commands keep in the store, such as how far a file has
-- been pushed. A newer note replaces the one of its name, in the same commit as
-- the work that it describes.

local arguments = require "respool.cli.base.arguments"
local core = require "respool.core"

local check, cbor = arguments.check, core.cbor

local M = {}

local KEY, TAIL = 255, 200 -- bytes of a key, and of what it keeps if cut

-- The key of a name of any length, without NULs.
local function key_of(kind, name)
  local key = kind .. " " .. name:gsub("%z", "\n")
  if #key <= KEY then return key end
  return ("%s %d %s"):format(kind, #name, key:sub(-TAIL))
end

-- The note of this kind and name, as it was put; nil when there is none.
---@param store respool.store
---@param kind string
---@param name string
---@return table?
function M.get(store, kind, name)
  local bytes, message, code = store.handle:note_load(key_of(kind, name))
  if code == "NOT_FOUND" then return nil end
  local kept = cbor.decode(check(bytes, message, code))
  return kept.kind == kind and kept.name == name and kept.note or nil
end

-- Puts a note into the commit of a transaction.
---@param tx respool.transaction
---@param kind string
---@param name string
---@param note table
function M.put(tx, kind, name, note)
  tx:note(key_of(kind, name), cbor.encode {
    kind = kind, name = name, note = note,
  })
end

-- Puts a note by itself.
---@param store respool.store
---@param kind string
---@param name string
---@param note table
function M.save(store, kind, name, note)
  check(store:transaction(function(tx) M.put(tx, kind, name, note) end))
end

-- Removes a note; false when there is none.
---@param store respool.store
---@param kind string
---@param name string
---@return boolean
function M.remove(store, kind, name)
  local ok, message, code = store.handle:note_remove(key_of(kind, name))
  if code == "NOT_FOUND" then return false end
  return check(ok, message, code)
end

return M
