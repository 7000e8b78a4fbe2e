-- SPDX-License-Identifier: MIT
--
-- Filters of items and dead letters, made of parameters: never of code.
--
--   group=       dead letters of this group; "" for those without one
--   reason=      dead letters of this reason
--   since=, until=   died (items: were pushed) in this time
--   text=        in the payload's strings, the error, the group or the key
--   field=PATH=VALUE   of the payload, such as customer.id=42; of a list the
--                first element is 1

local core = require "respool.core"
local parameters = require "respool.console.parameters"

local M = {}

local function field(value)
  if type(value) == "string" and value:match "^[^=]+=" then return value end
  return nil, "PATH=VALUE"
end

-- The parameters of a filter.
M.ITEMS = {
  since = parameters.time, ["until"] = parameters.time,
  text = parameters.text, field = field,
}
M.DEAD = { reason = parameters.text, group = parameters.text }
for name, kind in pairs(M.ITEMS) do M.DEAD[name] = kind end

local function holds(value, text)
  return type(value) == "string" and value:find(text, 1, true) ~= nil
end

-- Strings of CBOR lie in its bytes as they are.
local function has_text(record, text)
  return holds(record.bytes, text) or holds(rawget(record, "error"), text)
    or holds(rawget(record, "group"), text)
    or holds(rawget(record, "key"), text)
end

local function value_at(value, path)
  for name in path:gmatch "[^.]+" do
    if type(value) ~= "table" then return nil end
    local inner = value[name]
    if inner == nil then inner = value[tonumber(name)] end
    value = inner
  end
  return value
end

local function is_same(value, text)
  if type(value) == "number" then return value == core.number(text) end
  if value == core.cbor.null then return text == "null" end
  return value ~= nil and tostring(value) == text
end

local function has_field(record, path, text)
  if rawget(record, "codec") ~= nil then return false end -- no CBOR
  local ok, payload = pcall(core.cbor.decode, record.bytes)
  return ok and is_same(value_at(payload, path), text)
end

-- Whether a record passes; nil when there is nothing to ask but its group.
---@param o table
---@return (fun(record: table): boolean)?
function M.of(o)
  local path, value = (o.field or ""):match "^([^=]+)=(.*)$"
  if not (o.reason or o.since or o["until"] or o.text or path) then
    return nil
  end
  return function(record)
    local at = rawget(record, "died_at") or rawget(record, "pushed_at") or 0
    return (not o.reason or record.reason == o.reason)
      and (not o.since or at >= o.since)
      and (not o["until"] or at < o["until"])
      and (not o.text or has_text(record, o.text))
      and (not path or has_field(record, path, value))
  end
end

return M
