-- SPDX-License-Identifier: MIT
--
-- JSON merge patches (RFC 7396): a change of payloads that is data, not code.
-- Members of an object that the patch has are set, those that are null in it
-- are removed; anything but an object replaces what was there.

local cbor = require "respool.core".cbor

local M = {}

-- Whether a decoded value was an object, not an array.
---@param value any
---@return boolean
function M.is_object(value)
  return type(value) == "table" and getmetatable(value) ~= cbor.array_mt
end

-- A value as the patch makes it, which may be the value itself, changed.
---@param value any
---@param patch any
---@return any
function M.apply(value, patch)
  if not M.is_object(patch) then return patch end
  local changed = M.is_object(value) and value or {}
  for name, part in pairs(patch) do
    if part == cbor.null then
      changed[name] = nil
    else
      changed[name] = M.apply(changed[name], part)
    end
  end
  return changed
end

return M
