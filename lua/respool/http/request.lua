-- SPDX-License-Identifier: MIT
--
-- The request of an item: its body, its headers, and their signature.

local body_of = require "respool.http.body"
local compat = require "respool.support.compat"
local form = require "respool.http.options"
local message = require "respool.http.message"
local sign = require "respool.http.sign"

local M = {}

local PASSED = { "traceparent", "tracestate", "idempotency-key" }

-- The headers that the user wants besides; raises when they are none.
local function own_headers(o, payload, item)
  if type(o.headers) ~= "function" then return o.headers end
  local given = o.headers(payload, item)
  local checked = type(given) == "table" and form.headers(given)
  if given ~= nil and not checked then
    compat.misuse("respool.http: 'headers' returned what cannot be sent")
  end
  return checked or {}
end

-- Names of headers as people write them.
local function titled(name)
  return (name:gsub("%f[%a]%a", string.upper))
end

local function lines_of(headers)
  local lines = {}
  for name, value in pairs(headers) do
    lines[#lines + 1] = ("%s: %s"):format(titled(name), value)
  end
  table.sort(lines)
  return lines
end

-- The user's headers take the place of ours.
local function split(headers, own)
  for name in pairs(own) do headers[name] = nil end
  return lines_of(headers), lines_of(own)
end

-- Those of our own headers that a signature covers, besides `pass`.
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

-- The request of an item; when its payload has no body, nil and why.
---@param o table the handler's options
---@param payload any
---@param item respool.item
---@return respool.http.message?, string?
function M.new(o, payload, item)
  local bytes, kind, encoding = o.body(payload, item)
  if type(bytes) ~= "string" then
    return nil, tostring(kind or "'body' returned no string")
  elseif kind ~= nil and not message.is_value(kind) then
    return nil, "'body' returned no type that can be sent"
  end
  local headers = body_of.headers(item, PASSED)
  headers["content-type"] = o.content_type or kind
  headers["content-encoding"] = encoding
  local own = body_of.passed(item, o.pass)
  for name, value in pairs(own_headers(o, payload, item)) do
    own[name] = value
  end
  if o.secret then add_signature(o, headers, own, bytes) end
  local lines, more = split(headers, own)
  return { method = o.method, lines = lines, own = more, body = bytes }
end

return M
