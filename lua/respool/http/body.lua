-- SPDX-License-Identifier: MIT
--
-- The body of an item's request, with its type, and the headers that tell
-- which item it is.

local core = require "respool.core"
local json = require "respool.support.json"
local message = require "respool.http.message"

local M = {}

local JSON, OCTETS = "application/json", "application/octet-stream"

-- The headers of the item that may be sent, by their names in lower case.
local function item_headers(item)
  local given, kept = item.headers, {}
  for name, value in pairs(type(given) == "table" and given or {}) do
    if type(value) == "number" then value = core.decimal(value) end
    if message.is_token(name) and message.is_value(value) then
      kept[name:lower()] = value
    end
  end
  return kept
end

local function type_of(item)
  return item_headers(item)["content-type"]
end


-- Payloads. Each of these returns the bytes, their type and perhaps their
-- encoding, or nil and why the payload has none.

local forms = {}

function forms.json(payload)
  return json.encode(payload), JSON
end

function forms.cbor(payload)
  return core.cbor.encode(payload), "application/cbor"
end

function forms.raw(payload, item)
  if type(payload) ~= "string" then
    return nil, ("a payload that is sent raw must be a string, not %s"):format(
      type(payload))
  end
  local headers = item_headers(item)
  return payload, headers["content-type"] or OCTETS,
    headers["content-encoding"]
end

-- A string that came with its type goes as it came.
function forms.auto(payload, item)
  if type(payload) == "string" and type_of(item) then
    return forms.raw(payload, item)
  end
  return forms.json(payload)
end

M.forms = forms


-- Headers.

-- Printable ASCII, the rest as in a URL.
local function printable(text)
  return (text:gsub("[^!-$&-~]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

-- The same for each delivery of an item, also after a replay or an import into
-- another store; another for any other item.
---@param item respool.item
---@return string
function M.identity(item)
  local origin = item.origin
  return ("%s-%d-%.0f"):format(printable(origin.queue), origin.id,
                               origin.pushed_at * 1000)
end

-- Those of an item's own headers that are sent along.
---@param item respool.item
---@param names string[] in lower case
---@return table<string, string>
function M.passed(item, names)
  local own, passed = item_headers(item), {}
  for _, name in ipairs(names) do passed[name] = own[name] end
  return passed
end

-- The headers of an item's delivery, by their names in lower case. `names`
-- are those of the item's own headers that are sent along.
---@param item respool.item
---@param names string[] in lower case
---@return table<string, string>
function M.headers(item, names)
  local headers = M.passed(item, names)
  headers["user-agent"] = "respool/" .. core.version
  headers["idempotency-key"] = headers["idempotency-key"] or M.identity(item)
  headers["respool-queue"] = printable(item.queue)
  headers["respool-id"] = ("%d"):format(item.id)
  headers["respool-attempt"] = ("%d"):format(item.attempts + 1)
  return headers
end

return M
