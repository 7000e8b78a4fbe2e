-- SPDX-License-Identifier: MIT
--
-- JSON, by the C module respool.json, which stands on jansson and is loaded by
-- the first call that needs it. Between JSON and the stored CBOR there is no
-- Lua value unless the caller wants one.
--
-- In: RFC 8259, and nothing else: no byte order mark, no half of a surrogate
-- pair, 64 levels, 4,194,304 values. Whole numbers are integers, however they
-- are written (1, 1.0, 1e0); one beyond 64 bits (LuaJIT, 5.1: beyond 2^53) is
-- refused, and so is a number beyond a double, and a name with U+0000. Of a
-- name that an object has twice the last counts.
--
-- Out: of what JSON does not know, NaN and infinities become null, map keys
-- that are no strings become the strings they are written as, and a string
-- that is not UTF-8 becomes {"$base64": "..."}, as a map key "$base64:...".
-- Numbers are written so that they read back as the same ones.

local core = require "respool.core"

local cbor = core.cbor

local M = {}

local native = setmetatable({}, { __index = function(t, name)
  t[name] = require "respool.json"[name]
  return t[name]
end })

M.native = native


-- Values.

-- The CBOR of a JSON text: nil and why when it has none, in words that hold
-- nothing of the text.
---@param text string
---@return string?, string?
function M.to_cbor(text)
  return native.to_cbor(text)
end

-- The value of a JSON text; nil and why. null is respool.null; empty arrays
-- stay arrays.
---@param text string
---@return any, string?
function M.decode(text)
  local bytes, why = native.to_cbor(text)
  if not bytes then return nil, why end
  return cbor.decode(bytes)
end

-- A JSON text in one line, or with `indent` spaces a level. Map keys are
-- sorted. Raises for what is no value of CBOR.
---@param value any
---@param indent integer?
---@return string
function M.encode(value, indent)
  return native.from_cbor(cbor.encode(value), {
    sorted = true, indent = indent,
  })
end

---@class respool.json_layout
---@field indent integer? spaces a level; else it is one line
---@field limit integer? bytes after which the text may be cut off
---@field sorted boolean? map keys are; else they are as stored

-- The JSON of stored CBOR; nil when it is none.
---@param bytes string
---@param layout respool.json_layout?
---@return string?
function M.text(bytes, layout)
  return native.from_cbor(bytes, layout)
end


-- Items and dead letters, as a handle with the codec "raw" lists them.

-- The codec by which a payload of a record is shown; nil: CBOR.
---@param record table
---@param mark string? the codec that is stored with it
---@param raw boolean? the bytes are wanted
---@return string?
function M.codec_of(record, mark, raw)
  return rawget(record, "damaged") and "damaged" or raw and "raw" or mark
end

-- The JSON of a payload of this codec; of bytes that no value is known of, the
-- bytes', and false.
---@param bytes string
---@param codec string? as codec_of() tells it
---@param layout respool.json_layout?
---@param from_cbor function? what makes the text; native.from_cbor
---@return string, boolean
function M.body(bytes, codec, layout, from_cbor)
  from_cbor = from_cbor or native.from_cbor
  local text = codec == nil and from_cbor(bytes, layout)
  if text then return text, true end
  local limit = layout and layout.limit
  if limit then bytes = bytes:sub(1, limit) end
  return from_cbor(cbor.encode(bytes), layout), codec == "raw"
end

-- The fields of a record except its payload, headers and original.
local FIELDS = {
  "attempts", "codec", "crashes", "damaged", "deliveries", "died_at",
  "done_at", "error", "expires_at", "failures", "first_failed_at", "group",
  "history", "id", "items", "key", "memo", "number", "origin",
  "original_codec", "partition", "priority", "progress", "pushed_at", "queue",
  "reason", "replays", "state", "version", "visible_at", "worker",
}

local function fields_of(record)
  local history = rawget(record, "history")
  if history then cbor.array(history) end
  return cbor.members(record, FIELDS)
end

-- The record with the parts that have JSON of their own; nil when one has not,
-- or may take long.
local function join_whole(record, raw)
  if raw or rawget(record, "codec") or rawget(record, "original")
     or rawget(record, "damaged") then
    return nil
  end
  return (native.join_plain(fields_of(record), "headers",
    rawget(record, "header_bytes"), "payload", rawget(record, "bytes")))
end

-- The same of any record, part by part.
local function join_parts(record, raw, from_cbor)
  local parts = { (native.join_plain(fields_of(record)):sub(1, -2)) }
  local function add(name, text)
    parts[#parts + 1] = '"' .. name .. '":' .. text
  end
  local function body(bytes, mark)
    return M.body(bytes, M.codec_of(record, mark, raw), nil, from_cbor)
  end
  local headers = rawget(record, "header_bytes")
  if headers then
    add("headers", (M.body(headers, nil, nil, from_cbor)))
  end
  local original = rawget(record, "original")
  if original then
    local text, known = body(original, rawget(record, "original_codec"))
    if known then add("original", text) end
  end
  if record.bytes then
    local text, known = body(record.bytes, rawget(record, "codec"))
    add(known and "payload" or "bytes", text)
  end
  if parts[1] == "{" then parts[1] = parts[1] .. table.remove(parts, 2) end
  return table.concat(parts, ",") .. "}"
end

-- The JSON of a record in one line: its fields, then headers, the payload
-- before a transform, and the payload, or `bytes` where that is not known.
---@param record table
---@param raw boolean? payloads are the bytes that are stored
---@param from_cbor function? as body() takes it
---@return string
function M.record(record, raw, from_cbor)
  return not from_cbor and join_whole(record, raw)
    or join_parts(record, raw, from_cbor)
end

return M
