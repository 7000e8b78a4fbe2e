-- SPDX-License-Identifier: MIT
--
-- The values that handlers return: kept as the result of an item that is done,
-- where its queue keeps finished items.

local core = require "respool.core"
local batch_state = require "respool.consume.batch_state"
local compat = require "respool.support.compat"
local memo = require "respool.consume.handler_memo"
local hooks = require "respool.observe.hooks"
local outcome = require "respool.support.outcome"

local batches, cbor = core.batch, core.cbor

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

-- Marks an item as done with a result, and those that were merged into it. One
-- whose payload could not be read stays a dead letter.
---@param batch respool.batch
---@param i integer
---@param bytes string? nil: none
---@return true?, string?, string?
function M.mark(batch, i, bytes)
  if batch_state.is_unreadable(batch, i) then return true end
  for _, other in ipairs(batch_state.followers(batch, i)) do
    local kind = batches.kind(batch, other[2])
    if kind == outcome.NONE or kind == outcome.DONE then
      batch_state.mark(batch, other[2],
                       { kind = outcome.DONE, result = bytes })
    end
  end
  if not bytes then return batches.mark(batch, i, outcome.DONE) end
  return batch_state.mark(batch, i, { kind = outcome.DONE, result = bytes })
end

local function log_problem(queue, batch, i, problem)
  hooks.log(queue.store, "warn", "the result of an item is not kept", {
    queue = queue.name, id = batches.field(batch, i, batches.fields.id),
    problem = problem,
  })
end

-- Keeps what a handler of a fan-out returned with the item, which is tried
-- again for others: within 2 KiB for all of them.
---@param queue respool.queue
---@param item respool.item
---@param place string
---@param value any
function M.remember(queue, item, place, value)
  local bytes, problem = M.encode(value)
  if bytes and memo.add_result(item[1], item[2], place, bytes) then return end
  log_problem(queue, item[1], item[2], ("of handler %s: %s"):format(
    place, problem or "it has no room beside others"))
end

-- The value that was remembered, or nil.
---@param bytes string|true
---@return any
function M.decode(bytes)
  if bytes == true then return nil end
  return (cbor.decode(bytes))
end

local function keep_one(queue, batch, i, value)
  if value == nil or value == true
     or batches.kind(batch, i) ~= outcome.NONE then
    return false
  end
  local bytes, problem = M.encode(value)
  if not bytes then
    log_problem(queue, batch, i, problem)
    return false
  end
  M.mark(batch, i, bytes)
  return true
end

-- Marks an item, which has no mark yet, as done with what its handler returned.
-- That the result cannot be kept is logged: the work is done all the same. True
-- when the item is marked.
---@param queue respool.queue
---@param item respool.item
---@param value any
---@return boolean
function M.keep(queue, item, value)
  return keep_one(queue, item[1], item[2], value)
end

-- Whether what a handler returned has results by the numbers of items, and
-- nothing else.
local function is_list(value, n)
  if type(value) ~= "table" then return false end
  for i in pairs(value) do
    if type(i) ~= "number" or i < 1 or i > n or i % 1 ~= 0 then return false end
  end
  return true
end

-- The same of the items of a batch, of which a list has the results by their
-- numbers. Another value than a list is logged.
---@param queue respool.queue
---@param batch respool.batch
---@param list any
function M.keep_all(queue, batch, list)
  if list == nil or list == true then return end
  if is_list(list, #batch) then
    for i, value in pairs(list) do keep_one(queue, batch, i, value) end
    return
  end
  hooks.log(queue.store, "warn", "the results of a batch are not kept", {
    queue = queue.name,
    problem = "its handler returned no list with a result for each item",
  })
end

return M
