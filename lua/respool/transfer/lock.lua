-- SPDX-License-Identifier: MIT
--
-- Locks on what one process at a time does with a store. In a store in files
-- it is a lock on a file of its directory, which ends with the process. In a
-- database it is an item whose payload names the holder, under a key that only
-- one item has, and whose lease is kept as long as the process lives. Where
-- that was killed, another of its machine sees it and removes the item; one of
-- another machine can take it when the lease has run out, within a minute.

local core = require "respool.core"
local location = require "respool.support.location"
local runner = require "respool.support.runner"

local M = {}

local LEASE = 60
local TRIES = 5 -- others may come in between

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

local function push(queue, who)
  return queue:push(who, {
    key = "lock", on_conflict = "ignore", ttl = math.huge,
  })
end

-- The item of a holder that is gone makes way. True: it did, or is about to;
-- or false and the process that holds it, if that can be seen; or nil and why
-- it is not known.
local function make_way(queue)
  local found, message, code = queue:get { key = "lock" }
  if found then
    local pid, hidden = runner.pid(found.payload)
    if pid or hidden then return false, pid end
    found, message, code = queue:cancel(found.id)
  end
  if found or code == "NOT_FOUND" then return true end
  return nil, nil, message, code
end

-- The batch with the item of this holder; or nil and the process that has one.
-- An item of somebody else that can be taken was left by a holder whose lease
-- ran out, or is that of one who comes too late.
local function hold(queue, who)
  for _ = 1, TRIES do
    local ok, message, code = push(queue, who)
    if not ok then return nil, nil, message, code end
    local batch
    batch, message, code = queue:take { limit = 1 }
    if not batch then return nil, nil, message, code end
    if #batch == 0 then
      local goes, pid
      goes, pid, message, code = make_way(queue)
      if not goes then return nil, pid, message, code end
    elseif batch:item(1).payload == who then
      batch:keep()
      return batch
    else
      batch:done()
      batch:close()
    end
  end
end

local function in_a_queue(store, name, busy)
  local queue, message, code = store:queue("." .. name .. "-lock", {
    lease = LEASE, max_lease = "7d", max_crashes = math.huge,
  })
  if not queue then return nil, message, code end
  local lock = {}
  local who, leave = runner.enter(lock)
  local batch, pid
  batch, pid, message, code = hold(queue, who)
  if not batch then
    leave()
    if message then return nil, message, code end
    return nil, ("%s store '%s'%s"):format(busy, location.shown(store.path),
      pid and (": process %d"):format(pid)
        or ", or one was killed less than a minute ago"), "LOCKED"
  end
  function lock.unlock()
    leave()
    batch:done()
    return batch:close()
  end
  return lock
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
