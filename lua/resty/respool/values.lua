-- SPDX-License-Identifier: MIT
--
-- Long values piece by piece: what a payload of 1 MiB is made of may take tens
-- of milliseconds, in which others have their turns.

local codec = require "respool.support.codec"
local core = require "respool.core"
local timing = require "respool.support.timing"
local waiting = require "resty.respool.waiting"

local cbor = core.cbor

local M = {}

local PIECE = 8192       -- bytes of CBOR, whose value is made in about 1 ms
local AT_ONCE = 8 * PIECE -- those of a payload

-- The value that begins at a place of CBOR, and where it ends, which may be
-- known. Raises where there is none.
local function value_at(bytes, at, after)
  after = after or assert(cbor.skip(bytes, at))
  local kind, n, next_at = cbor.enter(bytes, at)
  if not kind or after - at <= PIECE then
    local value, why = cbor.decode(bytes:sub(at, after - 1))
    if value == nil then error(why, 0) end
    return value, after
  end
  local keyed, i = kind == "map", 1
  local t = keyed and {} or cbor.array()
  while i <= n do
    local first = i
    i, next_at = cbor.fill(bytes, next_at, t, i, n, keyed, PIECE)
    timing.breathe()
    if i == first then -- a long one
      local key = i
      if keyed then key, next_at = value_at(bytes, next_at) end
      t[key], next_at = value_at(bytes, next_at)
      i = i + 1
    end
  end
  return t, next_at
end

-- The value of CBOR, piece by piece; nil and why.
---@param bytes string
---@return any, string?
function M.decode(bytes)
  if #bytes <= PIECE or not waiting.can_yield() then
    return cbor.decode(bytes)
  end
  local ends = #bytes + 1
  local ok, value, after = pcall(value_at, bytes, 1, ends)
  if ok and after == ends then return value end
  return cbor.decode(bytes) -- which says what is wrong
end

local append

-- Appends the CBOR of the elements of an array.
local function append_elements(parts, t, n, depth)
  local i = 1
  while i <= n do
    local first = i
    parts[#parts + 1], i = cbor.elements(t, i, n, depth, PIECE)
    timing.breathe()
    if i == first then -- a long one
      append(parts, t[i], depth + 1)
      i = i + 1
    end
  end
end

-- Appends that of a map.
local function append_entries(parts, t, depth)
  local at, count, last = #parts + 1, 0, nil
  parts[at] = ""
  repeat
    local n
    parts[#parts + 1], last, n = cbor.entries(t, last, depth, PIECE)
    timing.breathe()
    local key, value = next(t, last) -- none, or a long one
    if key ~= nil then
      append(parts, key, depth + 1)
      append(parts, value, depth + 1)
    end
    last, count = key, count + n + (key ~= nil and 1 or 0)
  until key == nil
  parts[at] = cbor.head(true, count)
end

local KEYS = 16384 -- counted at once

-- How many elements a table has as an array; nil: it is a map. Raises where it
-- can be neither. That none of them is nil is found out later.
local function shape(t)
  local found, last = 0, nil
  while true do
    local k, key, n, marked = cbor.keys(t, last, KEYS)
    found, last = found + k, key
    timing.breathe()
    if k < KEYS and found == n then return n end
    if k < KEYS and marked then error "array with keys other than 1..n" end
    if k < KEYS then return nil end
  end
end

-- Appends the CBOR of a value that is in `depth` tables. Raises where there is
-- none.
function append(parts, value, depth)
  local bytes = cbor.short(value, depth, PIECE)
  timing.breathe()
  if bytes or type(value) ~= "table" then
    parts[#parts + 1] = bytes or cbor.encode(value)
    return
  end
  local n = shape(value)
  if not n then return append_entries(parts, value, depth) end
  parts[#parts + 1] = cbor.head(false, n)
  append_elements(parts, value, n, depth)
end

-- The CBOR of a value, piece by piece; nil in phases that cannot yield. Raises
-- where it has none.
---@param value any
---@return string?
function M.encode(value)
  if not waiting.can_yield() then return nil end
  local parts = {}
  if pcall(append, parts, value, 0) then return table.concat(parts) end
  return cbor.encode(value) -- which says what is wrong
end

codec.set_decoder(AT_ONCE, M.decode)
codec.set_encoder(M.encode)

return M
