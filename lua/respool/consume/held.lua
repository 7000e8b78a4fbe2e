-- SPDX-License-Identifier: MIT
--
-- Whether a handler still has its item: somebody may have cancelled it, or its
-- lease may have run out. The store is asked no more than once a second for an
-- item, and at once after a cancel by the same store object.

local core = require "respool.core"
local batch_state = require "respool.consume.batch_state"
local hooks = require "respool.observe.hooks"
local timing = require "respool.support.timing"

local batches = core.batch

local M = {}

local LOOK = 1 -- seconds between looks

---@class respool.held_look
---@field at number
---@field cancels integer of the store by then
---@field gone boolean

local function look(queue, batch, i)
  local id = batches.field(batch, i, batches.fields.id)
  local held, message, code = queue.handle:item_held(id, batches.lease(batch))
  if held == nil then
    hooks.report(queue.store, "cancelled", message, code)
  end
  return held == false
end

-- Has the batch lost the item? If the store cannot be asked, it has not.
---@param batch respool.batch
---@param i integer
---@return boolean
function M.is_gone(batch, i)
  if batches.settled(batch, i) then return false end
  local state = batch_state.of(batch)
  local queue, cancels = state.queue, state.queue.store.cancels
  local now = timing.time(queue.store)
  local looks = state.looks or {}
  state.looks = looks
  local last = looks[i]
  if last and (last.gone or last.cancels == cancels and now >= last.at
               and now - last.at < LOOK) then
    return last.gone
  end
  looks[i] = { at = now, cancels = cancels, gone = look(queue, batch, i) }
  return looks[i].gone
end

-- It was learned elsewhere.
---@param batch respool.batch
---@param i integer
function M.note_gone(batch, i)
  local state = batch_state.of(batch)
  state.looks = state.looks or {}
  state.looks[i] = { at = 0, cancels = 0, gone = true }
end

return M
