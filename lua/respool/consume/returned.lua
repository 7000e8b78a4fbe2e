-- SPDX-License-Identifier: MIT
--
-- What handlers return: kept as the result of an item that is done, where its
-- queue keeps finished items.

local core = require "respool.core"
local batch_state = require "respool.consume.batch_state"
local compat = require "respool.support.compat"
local hooks = require "respool.observe.hooks"
local outcome = require "respool.support.outcome"

local batches = core.batch

local M = {}

local MOST = 16384 -- bytes

-- The bytes of a result; nil and what is wrong with it.
---@param value any
---@return string?, string?
function M.encode(value)
  local ok, bytes = compat.pcall(core.cbor.encode, value)
  if not ok then return nil, outcome.describe(bytes).text end
  if #bytes <= MOST then return bytes end
  return nil, ("it has %d bytes, over %d"):format(#bytes, MOST)
end

-- Marks an item, which has no mark yet, as done with what its handler returned.
-- That the result cannot be kept is logged: the work is done all the same.
---@param queue respool.queue
---@param item respool.item
---@param value any
function M.keep(queue, item, value)
  if batches.kind(item[1], item[2]) ~= outcome.NONE then return end
  local bytes, problem = M.encode(value)
  if bytes then
    batch_state.mark(item[1], item[2], { kind = outcome.DONE, result = bytes })
    return
  end
  hooks.log(queue.store, "warn", "the result of an item is not kept", {
    queue = queue.name, id = item.id, problem = problem,
  })
end

return M
