-- SPDX-License-Identifier: MIT
--
-- Merging: items with the same key become one. A producer folds a push into
-- the unflushed item of its buffer, a consumer the items of a batch before a
-- handler sees them; these are settled alike.

local codec = require "respool.support.codec"
local compat = require "respool.support.compat"
local core = require "respool.core"
local push = require "respool.produce.push"

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
  return core.decimal(n)
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

-- Two payloads made one by `with`; never nil.
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
      push.core_options(queue, o), wait)
    if code ~= "BUSY" then return ok, message, code end
  end
end

return M
