-- SPDX-License-Identifier: MIT
--
-- Merging: items with the same key become one. A producer folds a push into
-- the unflushed item of its buffer, a consumer the items of a batch before a
-- handler sees them; these are settled alike.

local core = require "respool.core"
local codec = require "respool.support.codec"
local compat = require "respool.support.compat"
local item = require "respool.consume.item"
local memory = require "respool.consume.handler_memo"
local push = require "respool.produce.push"
local kind = require "respool.consume.decide"

local batches = core.batch

local M = {}

---@class respool.merge
---@field key fun(payload: any): string|number|nil nil: by itself
---@field with fun(old: any, new: any): any

local EXPECTED = "{ key = function, with = function }"

-- The kind of an option `merge`.
---@param value any
---@return respool.merge?, string?
function M.kind(value)
  if type(value) ~= "table" or type(value.key) ~= "function"
     or type(value.with) ~= "function" then
    return nil, EXPECTED
  end
  for name in pairs(value) do
    if name ~= "key" and name ~= "with" then return nil, EXPECTED end
  end
  return { key = value.key, with = value.with }
end

-- The same of a consumer: true is the merge of the queue.
---@param value any
---@return respool.merge|true|nil, string?
function M.work_kind(value)
  if value == true then return true end
  return M.kind(value), "true or " .. EXPECTED
end

-- A number as text: the same for the same number, in every Lua.
local function text_of(n)
  if n % 1 == 0 and n >= -2^63 and n < 2^63 then return ("%d"):format(n) end
  local text = ("%.14g"):format(n)
  return tonumber(text) == n and text or ("%.17g"):format(n)
end

-- The name under which a payload is folded; nil: it is not. A number stands
-- for its text, whether it is an integer or a float.
---@param merge respool.merge
---@param payload any
---@return string?
function M.key(merge, payload)
  local name = merge.key(payload)
  if name == nil or name == "" then return nil end
  if type(name) == "number" then return text_of(name) end
  if type(name) == "string" then return name end
  compat.misuse(("merge: 'key' returned a %s instead of a string"):format(
    type(name)))
end

-- What `with` makes of two payloads; never nil.
---@param merge respool.merge
---@return any
function M.combine(merge, old, new)
  local both = merge.with(old, new)
  if both == nil then compat.misuse("merge: 'with' returned nothing") end
  return both
end


-- Producers.

local function decode(queue, bytes)
  local own = queue.codec
  local payload, problem = codec.decode(own, bytes, codec.mark(own))
  if payload == nil then compat.misuse("merge: " .. problem) end
  return payload
end

-- Folds a push into the unflushed item of its name, or adds one. Its options
-- are those of the last push.
---@param queue respool.queue
---@param name string
---@param payload any
---@param o table as push.read() returns them
---@param wait number
---@return true?, string?, string?
function M.fold(queue, name, payload, o, wait)
  local buffer = queue.buffer
  while true do
    local version, old, code = buffer:find(name)
    if not version then return nil, old, code end
    local both = payload
    if version > 0 then
      both = M.combine(queue.merge, decode(queue, old), payload)
    end
    local ok, message
    ok, message, code = buffer:fold(
      name, version, codec.encode(queue.codec, both), codec.mark(queue.codec),
      o.headers, push.spread_options(queue, o, wait))
    if code ~= "BUSY" then return ok, message, code end
  end
end


-- Consumers.

---@class respool.merge_group
---@field i integer the first item, whose outcome is that of all
---@field payload any

-- Adds an item to the groups; raises what `key` and `with` raise. `by_name`
-- has those of items that remember the same: what has been accepted of one
-- must not pass for accepted of another.
local function add(merge, state, by_name, it, payload)
  local name, i = M.key(merge, payload), it[2]
  local group = name and by_name[name]
  if group then
    group.payload = M.combine(merge, group.payload, payload)
    table.insert(state.followers[group.i], it)
    return
  end
  group = { i = i, payload = payload }
  table.insert(state.groups, group)
  state.followers[i] = {}
  if name then by_name[name] = group end
end

-- What `work` merges by, given as work_kind() keeps it.
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

-- The groups by name of items with this memory.
local function with_memo(by_memo, memo)
  by_memo[memo or ""] = by_memo[memo or ""] or {}
  return by_memo[memo or ""]
end

-- Folds the items of a batch into groups, in the order of their first items.
-- What has no payload is marked; fail(item, err) is called for what cannot
-- be folded.
---@param batch respool.batch
---@param merge respool.merge
---@param read fun(batch: respool.batch, i: integer): any, string?, string?
---@param fail fun(it: respool.item, err: any)
---@return respool.merge_group[] groups, integer refused
function M.gather(batch, merge, read, fail)
  local state, by_memo, refused = batches.beside(batch), {}, 0
  state.groups, state.followers = {}, {}
  for i = 1, #batch do
    local it = item.new(batch, i)
    local by_name = with_memo(by_memo, memory.memo(batch, i))
    local payload, problem, reason = read(batch, i)
    local ok, err
    if batches.closed(batch) then break end -- by an upgrade
    if payload ~= nil then
      ok, err = compat.pcall(add, merge, state, by_name, it, payload)
      if not ok then fail(it, err) end
    else
      kind.undecodable(state.queue, it, problem, reason)
    end
    refused = refused + (ok and 0 or 1)
    if batches.closed(batch) then break end -- by a hook
  end
  return state.groups, refused
end

return M
