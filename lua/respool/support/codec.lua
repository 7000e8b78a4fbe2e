-- SPDX-License-Identifier: MIT
--
-- Codecs: how a payload becomes the bytes that are stored, and back. "cbor"
-- is done by the core without a string in between; `native` says so.
--
-- The name of the codec is stored with each payload, none for "cbor", and the
-- payload is read by that, whatever the codec of the queue handle. A codec of
-- the user's is known to handles with a codec of that name only. A handle with
-- the codec "raw" reads every payload as the bytes that are stored.

local core = require "respool.core"
local compat = require "respool.support.compat"
local options = require "respool.support.options"

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

-- For payloads that are CBOR already.
local ENCODED = {
  name = "cbor", encode = RAW.encode, decode = core.cbor.decode,
}

local NAMED = { cbor = CBOR, raw = RAW }

local EXPECTED = '"cbor", "raw" or { name =, encode =, decode = } with '
  .. "another name"

-- The kind of a codec option.
---@param value any
---@return respool.codec?, string?
function M.kind(value)
  if type(value) == "string" then return NAMED[value], EXPECTED end
  if value == ENCODED or value == RAW then return value end
  if type(value) ~= "table" or not options.name(value.name)
     or NAMED[value.name] or type(value.encode) ~= "function"
     or type(value.decode) ~= "function" then
    return nil, EXPECTED
  end
  return { name = value.name, encode = value.encode, decode = value.decode }
end

M.default, M.raw = CBOR, RAW

M.at_once = nil -- bytes of CBOR that are decoded at once; nil: any
M.encode_in_turns = nil -- of a host

local encoded = { cbor = ENCODED, raw = RAW } -- by name

-- A codec of this name for payloads that have been encoded by it already.
---@param name string
---@return respool.codec
function M.encoded_as(name)
  encoded[name] = encoded[name] or {
    name = name, encode = RAW.encode, decode = RAW.decode,
  }
  return encoded[name]
end

-- Gives a host its way to decode CBOR of more than `size` bytes, which may let
-- others run meanwhile.
---@param size integer
---@param decode fun(bytes: string): any, string?
function M.set_decoder(size, decode)
  M.at_once = size
  local function any_size(bytes)
    if #bytes > size then return decode(bytes) end
    return core.cbor.decode(bytes)
  end
  CBOR.decode, ENCODED.decode = any_size, any_size
end

-- Gives a host its way to encode values as CBOR, which may let others run
-- meanwhile; it returns nil where others cannot.
---@param encode fun(value: any): string?
function M.set_encoder(encode)
  M.encode_in_turns = encode
end

-- The name that is stored with a payload; nil for CBOR.
---@param codec respool.codec
---@return string?
function M.mark(codec)
  return codec.name ~= "cbor" and codec.name or nil
end

-- The codec by which a handle with the codec `own` reads a payload with this
-- mark; nil when it knows none of that name.
---@param own respool.codec
---@param mark string?
---@return respool.codec?
function M.reading(own, mark)
  if own == RAW or mark == own.name then return own end
  return NAMED[mark or "cbor"]
end

-- The reason of a dead letter whose codec or payload version is not known.
M.VERSION = "version"

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

-- The payload of bytes with this mark, as a handle with the codec `own` reads
-- it; or nil, why there is none, and perhaps the reason of its dead letter.
---@param own respool.codec
---@param bytes string
---@param mark string?
---@return any, string?, string?
function M.decode(own, bytes, mark)
  local codec = M.reading(own, mark)
  if not codec then
    return nil, ("the payload is of codec '%s', which this handle does not "
      .. "know"):format(mark), M.VERSION
  end
  local ok, payload, problem = pcall(codec.decode, bytes)
  if not ok then
    return nil, ("codec '%s': %s"):format(codec.name, tostring(payload))
  elseif payload == nil then
    return nil, problem and tostring(problem)
      or ("codec '%s' decoded to nothing"):format(codec.name)
  end
  return payload
end

-- Headers are CBOR, whatever the payloads are. Headers of another
-- program that are not CBOR are given as bytes.
---@param bytes string?
---@return any
function M.headers(bytes)
  if bytes == nil then return nil end
  local headers = core.cbor.decode(bytes)
  if headers == nil then return bytes end
  return headers
end

-- Where and when an item was first pushed. It stays through retries,
-- dead-lettering, replay, export and import.
---@class respool.origin
---@field queue string
---@field id integer
---@field pushed_at number

-- The origin of a record as the core gives it: its own when none is stored.
-- Damaged records have none.
local function origin_of(record)
  if record.origin_queue then
    return {
      queue = record.origin_queue, id = record.origin_id,
      pushed_at = record.origin_pushed_at,
    }
  elseif record.queue and record.pushed_at then
    return {
      queue = record.queue, id = record.id, pushed_at = record.pushed_at,
    }
  end
end

local function set_origin(record)
  record.origin = origin_of(record)
  record.origin_queue, record.origin_id, record.origin_pushed_at = nil, nil, nil
end

-- Decodes an item or a dead letter in place. `header_bytes` keeps the encoded
-- headers. Damaged records get no payload.
---@param own respool.codec
---@param record table as the core gives it, with the name of its queue
---@return table record
function M.present(own, record)
  record.header_bytes = record.headers
  record.headers = M.headers(record.headers)
  set_origin(record)
  if not record.damaged then
    record.payload = M.decode(own, record.bytes, record.codec)
  end
  if record.original then
    record.original = M.decode(own, record.original, record.original_codec)
  end
  return record
end

-- The same of a record that is not decoded: its payload is the bytes, there are
-- no headers but their bytes, and an origin only if it is not its own.
---@param record table
---@return table record
function M.present_stored(record)
  record.header_bytes, record.headers = record.headers, nil
  if record.origin_queue then set_origin(record) else record.origin_id = nil end
  if not record.damaged then record.payload = record.bytes end
  return record
end

return M
