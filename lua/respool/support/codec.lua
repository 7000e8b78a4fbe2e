-- SPDX-License-Identifier: MIT
--
-- Codecs: how a payload becomes the bytes that are stored, and back. "cbor"
-- is done by the core without a string in between; `native` says so.

local core = require "respool.core"
local compat = require "respool.support.compat"

local misuse = compat.misuse

local M = {}

---@class respool.codec
---@field name string
---@field native boolean?
---@field encode fun(payload: any): string
---@field decode fun(bytes: string): any

local CBOR = {
  name = "cbor", native = true,
  encode = core.cbor.encode, decode = core.cbor.decode,
}

local RAW = { name = "raw" }

function RAW.encode(payload)
  if type(payload) == "string" then return payload end
  misuse("a payload of codec 'raw' must be a string, got " .. type(payload))
end

function RAW.decode(bytes)
  return bytes
end

local NAMED = { cbor = CBOR, raw = RAW }

local EXPECTED = '"cbor", "raw" or { name =, encode =, decode = }'

-- The kind of a codec option.
---@param value any
---@return respool.codec?, string?
function M.kind(value)
  if type(value) == "string" then return NAMED[value], EXPECTED end
  if type(value) ~= "table" or type(value.name) ~= "string"
     or type(value.encode) ~= "function"
     or type(value.decode) ~= "function" then
    return nil, EXPECTED
  end
  return { name = value.name, encode = value.encode, decode = value.decode }
end

M.default, M.raw = CBOR, RAW

-- The bytes of a payload. Raises when it has none.
---@param codec respool.codec
---@param payload any
---@return string
function M.encode(codec, payload)
  local bytes = codec.encode(payload)
  if type(bytes) ~= "string" then
    misuse(("codec '%s' encoded to %s instead of a string"):format(
      codec.name, type(bytes)))
  end
  return bytes
end

-- The payload of bytes, or nil and why there is none.
---@param codec respool.codec
---@param bytes string
---@return any, string?
function M.decode(codec, bytes)
  local ok, payload, problem = pcall(codec.decode, bytes)
  if not ok then
    return nil, ("codec '%s': %s"):format(codec.name, tostring(payload))
  elseif payload == nil then
    return nil, problem and tostring(problem)
      or ("codec '%s' decoded to nothing"):format(codec.name)
  end
  return payload
end

-- Headers are CBOR, whatever the payloads are. What another program stored
-- as headers without being CBOR is given as the bytes it is.
---@param bytes string?
---@return any
function M.headers(bytes)
  if bytes == nil then return nil end
  local headers = core.cbor.decode(bytes)
  if headers == nil then return bytes end
  return headers
end

-- Decodes an item or a dead letter in place. Its headers stay beside as
-- bytes; what is damaged has no payload.
---@param codec respool.codec
---@param record table as the core gives it
---@return table record
function M.present(codec, record)
  record.header_bytes = record.headers
  record.headers = M.headers(record.headers)
  if not record.damaged then
    record.payload = M.decode(codec, record.bytes)
  end
  if record.original then
    record.original = M.decode(codec, record.original)
  end
  return record
end

return M
