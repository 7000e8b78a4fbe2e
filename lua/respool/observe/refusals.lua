-- SPDX-License-Identifier: MIT
--
-- Pushes of this store handle that the store or a queue refused, by queue and
-- time: what health says of the last minutes. Kept in slots of SLOT seconds,
-- back to KEPT.

local M = {}

local SLOT, KEPT = 10, 3600 -- seconds

local REFUSALS = {
  FULL = true, NOSPACE = true, TIMEOUT = true, IO = true, CORRUPT = true,
  UNKNOWN_OUTCOME = true,
}

local function slot_now(store)
  return math.floor(store.handle:now() / SLOT)
end

-- Counts a push that answered `code`.
---@param queue respool.queue
---@param code string?
function M.note(queue, code)
  if not REFUSALS[code] then return end
  local store = queue.store
  local slots, at = store.refused[queue.name] or {}, slot_now(store)
  store.refused[queue.name] = slots
  local last = slots[#slots]
  if not last or last.at ~= at then
    last = { at = at, n = 0 }
    slots[#slots + 1] = last
    while slots[1].at < at - KEPT / SLOT do table.remove(slots, 1) end
  end
  last.n, last.code = last.n + 1, code
end

-- How many pushes to a queue were refused in the last `seconds`, and the code
-- of the last one.
---@param store respool.store
---@param name string
---@param seconds number
---@return integer, string?
function M.count(store, name, seconds)
  local from = slot_now(store) - math.floor(seconds / SLOT)
  local n, code = 0, nil
  for _, slot in ipairs(store.refused[name] or {}) do
    if slot.at >= from then n, code = n + slot.n, slot.code end
  end
  return n, code
end

return M
