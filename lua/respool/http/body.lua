-- SPDX-License-Identifier: MIT
--
-- The body of an item's request. Each of these functions returns the bytes,
-- their type and perhaps their encoding, or nil and why the payload has none;
-- `came` are the headers that came with the item.

local core = require "respool.core"
local json = require "respool.support.json"

local M = {}

local JSON, OCTETS = "application/json", "application/octet-stream"

function M.json(payload)
  return json.encode(payload), JSON
end

function M.cbor(payload)
  return core.cbor.encode(payload), "application/cbor"
end

function M.raw(payload, _, came)
  if type(payload) ~= "string" then
    return nil, ("a payload that is sent raw must be a string, not %s"):format(
      type(payload))
  end
  return payload, came["content-type"] or OCTETS, came["content-encoding"]
end

-- A string that came with its type goes as it came.
function M.auto(payload, item, came)
  if type(payload) == "string" and came["content-type"] then
    return M.raw(payload, item, came)
  end
  return M.json(payload)
end

return M
