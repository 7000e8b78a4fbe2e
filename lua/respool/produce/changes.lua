-- SPDX-License-Identifier: MIT
--
-- Changes of an item: it is named by its id or its key, and
-- another process may change it at the same time.

local items = require "respool.observe.items"
local outcome = require "respool.support.outcome"
local push = require "respool.produce.push"
local upgrade = require "respool.produce.upgrade"

local M = {}

-- Calls act(id). An item named by its key that is gone by then may have been
-- replaced by another one with the key, which is looked for again.
---@param queue respool.queue
---@param named integer|string
---@param act fun(id: integer): any, string?, string?
---@return any, string?, string?
function M.by_id(queue, named, act)
  if type(named) ~= "string" then return act(named) end
  local before
  while true do
    local found, message, code = queue.handle:get(named)
    if not found then return nil, message, code end
    local id = found[1].id
    local result
    result, message, code = act(id)
    if code ~= "NOT_FOUND" or id == before then return result, message, code end
    before = id
  end
end

local EDIT_TRIES = 10 -- while others change the same item

-- Edits by a function, which is called again with the payload that another has
-- put there meanwhile.
---@param queue respool.queue
---@param named integer|string
---@param fn fun(payload: any, item: respool.stored_item): any
---@return true?, string?, string?
function M.edit_by(queue, named, fn)
  local ok, message, code
  for _ = 1, EDIT_TRIES do
    local found, payload
    found, message, code = items.present(queue, queue.handle:get(named))
    if not found then return nil, message, code end
    payload, message, code = upgrade.stored(queue, found[1])
    if code then return nil, message, code end
    payload, message = fn(payload, found[1])
    local why = outcome.refusal("queue:edit: the function", payload, message)
    if why then return nil, why, "INVALID" end
    local value, by = push.new_body(queue, payload)
    ok, message, code = queue.handle:item_edit(
      value, by, found[1].id, queue.version or 0, found[1].bytes)
    if ok or code ~= "LOCKED" then return ok, message, code end
  end
  return nil, message, code
end

return M
