-- SPDX-License-Identifier: MIT
--
-- Repair: a new store of what can be read of a damaged one. The damaged one
-- is only read, and not by LMDB, so no damage harms the process.

local core = require "respool.core"

local M = {}

---@class respool.salvage
---@field queues integer in the new store, as the next two
---@field items integer
---@field dead_letters integer
---@field set_aside integer items in damaged segments, now dead letters
---@field nameless integer of `items`: in the queue "recovered"
---@field settled integer found, but known to have been settled
---@field lost_items integer known to be lost, as the next two
---@field lost_dead_letters integer
---@field lost_records integer
---@field damaged_pages integer
---@field findings string[] what was lost, set aside or guessed, a line each

local function path(value, name)
  if type(value) == "string" and value ~= "" and not value:find "\0" and
    value ~= ":memory:" then return value end
  core.misuse(("%s must be a directory's name"):format(name))
end

-- Brings everything that can be read of the store in `from` into a new store in
-- `to`, a directory that must be missing or empty. include/respool.h says at
-- respool_repair which records come back.
---@param from string a directory
---@param to string a directory
---@return respool.salvage?, string?, string?
---@nodiscard
function M.repair(from, to)
  path(from, "from")
  path(to, "to")
  local salvage, findings, code = core.repair(from, to)
  if not salvage then return nil, findings, code end
  salvage.findings = findings
  return salvage
end

return M
