-- SPDX-License-Identifier: MIT
--
-- Moving between stores: the items of a queue, or the dead letters of a DLQ,
-- to a queue of another store, a directory or a database. Each batch is pushed
-- there in one commit that notes whose records they were, and then removed
-- here: killed at any point and begun again, a move pushes each item once.

local compat = require "respool.support.compat"
local core = require "respool.core"
local export = require "respool.transfer.export"
local import = require "respool.transfer.import"
local location = require "respool.support.location"
local options = require "respool.support.options"
local push = require "respool.produce.push"
local record = require "respool.transfer.record"

local M = {}

---@class respool.move_options
---@field queue respool.queue? the queue whose items to move; or
---@field dlq respool.dead? the dead letters to move, which become items
---@field to respool.queue in another store
---@field group string? of dead letters
---@field limit integer? records at most
---@field on_conflict "fail"|"ignore"|"replace"? of a key that is held; "fail"
---@field on_progress fun(counts: respool.export_counts): any? false stops

local FORM = {
  of = "respool.move", queue = options.queue, dlq = options.dead,
  to = options.queue, group = options.group,
  limit = options.whole(1, math.huge),
  on_conflict = options.string, on_progress = options.callable,
}

local BATCH = 500

-- Nothing of a batch is moved where the target takes not all of it.
local function check_batch(o, batch)
  local why, message, code = push.no_partitions(o.to)
  for i = 1, why and #batch or 0 do
    if batch[i].partition then
      return nil, ("%s: %s"):format(record.name(batch[i], i), why), "INVALID"
    end
  end
  return why ~= nil, message, code
end

-- Pushes one batch; its records stay here unless all of them were pushed.
local function push_batch(o, batch)
  local ok, why, wrong = check_batch(o, batch)
  if not ok then return nil, why, wrong end
  local given = { batch }
  local counts, message, code = import.import {
    to = o.to, as_stored = true, on_conflict = o.on_conflict,
    reader = function() return table.remove(given) end,
  }
  if not counts then return nil, message, code end
  if counts.failed == 0 then return true end
  return nil, counts.errors[1], "EXISTS"
end

-- Whether what is noted in one store is seen in the other.
local function sees(a, b)
  local name = ("same %s %.0f"):format(core.process.self(), core.mono())
  local ok, message, code = b:transaction(function(tx) tx:note(name, "?") end)
  if not ok then return nil, message, code end
  local seen, why, wrong = a.handle:note_load(name)
  ok, message, code = b.handle:note_remove(name)
  if not ok then return nil, message, code end
  if not seen and wrong ~= "NOT_FOUND" then return nil, why, wrong end
  return seen ~= nil
end

-- Whether two stores are the same, as far as one can see; of databases also by
-- other names of a server. The copy of a database has its id, too.
---@param a respool.store
---@param b respool.store
---@return boolean?, string?, string?
function M.is_same(a, b)
  if a == b or location.is_same(a.path, b.path) then return true end
  if not (location.is_database(a.path) and location.is_database(b.path)) then
    return false
  end
  local one, message, code = a:stats()
  if not one then return nil, message, code end
  local other
  other, message, code = b:stats()
  if not other then return nil, message, code end
  if one.id ~= other.id then return false end
  return sees(a, b)
end

-- Moves the ready items of a queue, or dead letters. Returns counts; after an
-- error the fourth value counts what was done before.
---@param given respool.move_options
---@return respool.export_counts?, string?, string?, respool.export_counts?
---@nodiscard
function M.move(given)
  local o = options.read(FORM, given, 1)
  options.need(FORM, o, "to")
  local from = o.queue or o.dlq
  local same, message, code
  if from then same, message, code = M.is_same(from.store, o.to.store) end
  if message then return nil, message, code end
  if same then
    compat.misuse "respool.move: 'to' is a queue of the same store"
  end
  return export.export {
    queue = o.queue, dlq = o.dlq, group = o.group, limit = o.limit,
    remove = true, batch = BATCH, on_progress = o.on_progress,
    writer = function(batch) return push_batch(o, batch) end,
  }
end

return M
