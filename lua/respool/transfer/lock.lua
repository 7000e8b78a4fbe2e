-- SPDX-License-Identifier: MIT
--
-- Locks on what one process at a time does with a store. In a store in files
-- it is a lock on a file of its directory, which ends with the process. In a
-- database it is the lease of an item, kept as long as the process lives: it
-- ends within a minute after the process has.

local core = require "respool.core"
local location = require "respool.support.location"

local M = {}

local LEASE = 60

local function held_by_nobody()
  return { unlock = function() end }
end

local function in_files(store, name, busy)
  local held, message, code =
    core.file.lock(("%s/%s.lock"):format(store.path, name))
  if held then return held end
  if code == "LOCKED" then
    message = ("%s store '%s'"):format(busy, store.path)
  end
  return nil, message, code
end

-- The one item of the queue is there from the first lock on.
local function in_a_queue(store, name, busy)
  local queue, message, code = store:queue("." .. name .. "-lock", {
    lease = LEASE, max_lease = "7d", max_crashes = math.huge,
  })
  if not queue then return nil, message, code end
  local id
  id, message, code = queue:push("lock", {
    key = "lock", on_conflict = "ignore", ttl = math.huge,
  })
  if not id then return nil, message, code end
  local batch
  batch, message, code = queue:take { limit = 1 }
  if not batch then return nil, message, code end
  if #batch == 0 then
    return nil, ("%s store '%s', or one was killed less than a minute ago")
      :format(busy, location.shown(store.path)), "LOCKED"
  end
  batch:keep()
  return { unlock = function()
    batch:release()
    return batch:close()
  end }
end

-- Locks `name`; unlock() of the result ends it. LOCKED: another holds it; the
-- message is `busy` and the store.
---@param store respool.store
---@param name string
---@param busy string
---@return table?, string?, string?
function M.take(store, name, busy)
  if store.path == ":memory:" then return held_by_nobody() end
  if location.is_database(store.path) then
    return in_a_queue(store, name, busy)
  end
  return in_files(store, name, busy)
end

return M
