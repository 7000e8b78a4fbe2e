-- SPDX-License-Identifier: MIT
--
-- The workers of a store: who they are, whether they are still there, and what
-- they have in hand.

local compat = require "respool.support.compat"
local core = require "respool.core"
local runner = require "respool.support.runner"

local M = {}

local SILENCE = 600 -- seconds after which one that cannot be seen is gone

-- state: "running", "stopping" once it is asked to stop, "gone" when its
-- process has ended
---@class respool.worker_row
---@field number integer
---@field name string
---@field queue string
---@field host string
---@field pid integer
---@field state "running"|"stopping"|"gone"
---@field started_at number
---@field seen_at number when it was seen last
---@field leased integer items that it has in hand
---@field leases respool.worker_lease[] of these, what was taken together

---@class respool.worker_lease
---@field id integer the first
---@field items integer
---@field expires_at number
---@field progress { id: integer, done: number?, text: string?, at: number }?
--- that was reported last, of an item of these

-- The rows as they are stored, by number.
---@param store respool.store
---@return table[]?, string?, string?
function M.stored(store)
  local packed, message, code = store.handle:workers()
  if not packed then return nil, message, code end
  local all = core.cbor.decode(packed)
  for _, w in ipairs(all) do
    w.stopping = w.stopping == 1
    w.started_at, w.seen_at = w.started_at / 1000, w.seen_at / 1000
  end
  return all
end

-- Whether the process of a stored row has ended; the second result is whether
-- that was seen, and not only guessed from its silence.
---@param row table
---@param now number by the clock of the store
---@return boolean, boolean
function M.is_gone(row, now)
  local pid, hidden = runner.pid(row.process)
  if hidden then return now - row.seen_at > SILENCE, false end
  return pid == nil, true
end

-- The last progress that was reported of an item of the lease.
local function progress_of(lease)
  local id, done, at, text = compat.unpack(lease, 5, 8)
  if not id then return nil end
  return { id = id, done = done >= 0 and done / 1000 or nil, at = at / 1000,
           text = text ~= "" and text or nil }
end

-- The leases of a queue by worker; none of a queue that is gone.
local function leases_of(store, name)
  local by_worker = {}
  local queue, message, code = store.handle:find(name)
  if not queue then
    if code == "NOT_FOUND" then return by_worker end
    return nil, message, code
  end
  local packed
  packed, message, code = queue:leases()
  queue:close()
  if not packed then return nil, message, code end
  for _, lease in ipairs(core.cbor.decode(packed)) do
    local list = by_worker[lease[1]] or {}
    by_worker[lease[1]] = list
    list[#list + 1] = {
      items = lease[2], id = lease[3], expires_at = lease[4] / 1000,
      progress = progress_of(lease),
    }
  end
  return by_worker
end

local function present(row, leases, now)
  row.state = M.is_gone(row, now) and "gone"
    or row.stopping and "stopping" or "running"
  row.stopping, row.process = nil, nil
  row.leases, row.leased = core.cbor.array(leases or {}), 0
  for _, lease in ipairs(row.leases) do
    row.leased = row.leased + lease.items
  end
  return row
end

-- All of them, with what they hold.
---@param store respool.store
---@return respool.worker_row[]?, string?, string?
function M.list(store)
  local rows, message, code = M.stored(store)
  if not rows then return nil, message, code end
  local by_queue, now = {}, store.handle:now()
  for _, row in ipairs(rows) do
    local leases = by_queue[row.queue]
    if not leases then
      leases, message, code = leases_of(store, row.queue)
      if not leases then return nil, message, code end
      by_queue[row.queue] = leases
    end
    present(row, leases[row.number], now)
  end
  return rows
end

-- The worker that leases an item; only a number when its row is gone.
---@class respool.owner
---@field number integer
---@field name string?
---@field host string?
---@field pid integer?

-- Puts who leases them into items that bear a worker's number; 0: nobody who is
-- known.
---@param store respool.store
---@param items table[]
---@return table[]?, string?, string?
function M.name_owners(store, items)
  local rows
  for _, item in ipairs(items) do
    local number = item.worker
    item.worker = nil
    if number ~= 0 then
      if not rows then
        local all, message, code = M.stored(store)
        if not all then return nil, message, code end
        rows = {}
        for _, row in ipairs(all) do rows[row.number] = row end
      end
      local row = rows[number] or {}
      item.worker = {
        number = number, name = row.name, host = row.host, pid = row.pid,
      }
    end
  end
  return items
end

return M
