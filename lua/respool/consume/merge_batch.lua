-- SPDX-License-Identifier: MIT
--
-- Merging within a batch: its items are folded into groups by key before a
-- handler sees them. Each group is served as its first item, and settled with
-- all of its items alike.

local batch_state = require "respool.consume.batch_state"
local closing = require "respool.observe.closing"
local compat = require "respool.support.compat"
local decide = require "respool.consume.decide"
local item = require "respool.consume.item"
local memo = require "respool.consume.handler_memo"
local merge = require "respool.produce.merge"

local M = {}

---@class respool.merge_group
---@field i integer the first item, whose outcome is that of all
---@field payload any

-- The merge of `work`, given as merge.work_kind() keeps it.
---@param queue respool.queue
---@param given respool.merge|true|nil
---@param ordered boolean
---@return respool.merge?
function M.of_work(queue, given, ordered)
  if given and ordered then
    compat.misuse("queue:work: option 'merge' is not for an ordered queue")
  elseif given == true and not queue.merge then
    compat.misuse("queue:work: option 'merge' is true, but the queue has none")
  end
  return given == true and queue.merge or given or nil
end

-- Adds an item to the groups; raises what `key` and `with` raise. `by_name`
-- has the groups of items with the same memo: an item that a handler of a
-- fan-out has accepted must not be merged with one that it has not.
local function add(how, state, by_name, it, payload)
  local name, i = merge.key(how, payload), it[2]
  local group = name and by_name[name]
  if group then
    group.payload = merge.combine(how, group.payload, payload)
    table.insert(state.followers[group.i], it)
    return
  end
  group = { i = i, payload = payload }
  table.insert(state.groups, group)
  state.followers[i] = {}
  if name then by_name[name] = group end
end

-- The groups by name of items with this memo.
local function with_memo(by_memo, stored)
  by_memo[stored or ""] = by_memo[stored or ""] or {}
  return by_memo[stored or ""]
end

-- Folds the items of a batch into groups, in the order of their first items.
-- Items without a payload are marked; fail(item, err) is called for those that
-- cannot be folded.
---@param batch respool.batch
---@param how respool.merge
---@param read fun(batch: respool.batch, i: integer): any, string?, string?
---@param fail fun(it: respool.item, err: any)
---@return respool.merge_group[] groups, integer refused
function M.gather(batch, how, read, fail)
  local state, by_memo, refused = batch_state.of(batch), {}, 0
  state.groups, state.followers = {}, {}
  for i = 1, #batch do
    local it = item.new(batch, i)
    local by_name = with_memo(by_memo, memo.memo(batch, i))
    local payload, problem, reason = read(batch, i)
    local ok, err
    if payload ~= nil then
      ok, err = compat.pcall(add, how, state, by_name, it, payload)
      if not ok then fail(it, err) end
    else
      decide.undecodable(state.queue, it, problem, reason)
    end
    if not ok then refused = refused + 1 end
    if closing.is_immediate(state.queue.store) then break end
  end
  return state.groups, refused
end

return M
