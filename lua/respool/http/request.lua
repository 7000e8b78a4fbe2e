-- SPDX-License-Identifier: MIT
--
-- The request of an item: its body, the headers that tell which item it is,
-- those of the user, and a signature.

local compat = require "respool.support.compat"
local core = require "respool.core"
local form = require "respool.http.options"
local headers_of = require "respool.http.headers"
local item_of = require "respool.consume.item"
local sign = require "respool.http.sign"
local tracing = require "respool.observe.tracing"

local M = {}

local PASSED = { "traceparent", "tracestate", "idempotency-key" }

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

-- Our headers, beside those that came with the item.
local function add_item(headers, item)
  headers["user-agent"] = "respool/" .. core.version
  headers["idempotency-key"] = headers["idempotency-key"]
    or M.identity(item)
  headers["respool-queue"] = printable(item.queue)
  headers["respool-id"] = ("%d"):format(item.id)
  headers["respool-attempt"] = ("%d"):format(item.attempts + 1)
end

-- Adds the headers of the user; raises when they are not valid.
local function add_own(own, o, payload, item)
  local given = o.headers
  if type(given) == "function" then
    given = given(payload, item)
    local kept = type(given) == "table" and form.headers(given)
    if given ~= nil and not kept then
      compat.misuse("respool.http: 'headers' returned what cannot be sent")
    end
    given = kept or {}
  end
  for name, value in pairs(given) do own[name] = value end
end

-- The context of the handler's span in the place of the one that came along.
local function add_trace(headers, item)
  local context = tracing.headers(item_of.queue_of(item).store)
  for name, value in pairs(headers_of.sendable(context)) do
    headers[name] = value
  end
end

-- Our own headers that a signature covers, as well as `pass`.
local SIGNED = { "content-type", "content-encoding", "idempotency-key" }

local function add_signature(o, headers, own, bytes)
  local values, names = {}, {}
  for _, list in ipairs { SIGNED, o.pass } do
    for _, name in ipairs(list) do
      values[name] = own[name] or headers[name]
      names[#names + 1] = name
    end
  end
  local signed = sign.headers(o.signature, o.secret,
                              headers["idempotency-key"], bytes, values, names)
  for name, value in pairs(signed) do headers[name] = value end
end

-- The request of an item; when its payload has no body, nil and why. The
-- user's headers take the place of ours.
---@param o table the handler's options
---@param payload any
---@param item respool.item
---@return respool.http.message?, string?
function M.new(o, payload, item)
  local came = headers_of.sendable(item.headers)
  local bytes, kind, encoding = o.body(payload, item, came)
  if type(bytes) ~= "string" then
    return nil, tostring(kind or "'body' returned no string")
  elseif kind ~= nil and not headers_of.is_value(kind) then
    return nil, "'body' returned no type that can be sent"
  end
  local headers = headers_of.pick(came, PASSED)
  add_trace(headers, item)
  add_item(headers, item)
  headers["content-type"] = o.content_type or kind
  headers["content-encoding"] = encoding
  local own = headers_of.pick(came, o.pass)
  add_own(own, o, payload, item)
  if o.secret then add_signature(o, headers, own, bytes) end
  for name in pairs(own) do headers[name] = nil end
  return { method = o.method, lines = headers_of.lines(headers),
           own = headers_of.lines(own), body = bytes }
end

return M
