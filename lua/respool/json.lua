-- SPDX-License-Identifier: MIT
--
-- JSON for payloads, both ways.
--
-- In: lua-cjson reads, and is strict. It knows no integers and no empty
-- arrays, though: whole numbers are made integers again, and the few texts
-- that hold `[]` or, for Luas with integers, a number of 16 digits are read by
-- dkjson, once cjson has found them to be JSON. A whole number that this Lua
-- cannot hold, and any number beyond its floats, is refused.
--
-- Out: of what JSON does not know, NaN and infinities become null, map keys
-- that are no strings become the strings they are written as, and a string
-- that is not UTF-8 becomes {"$base64": "..."}, as a map key "$base64:...".
-- Map keys are sorted. Numbers are written so that they read back as the same
-- ones, which is why lua-cjson, of 14 digits, does not write them.

local core = require "respool.core"

local NULL, ARRAY = core.cbor.null, core.cbor.array_mt
local huge = math.huge
local tointeger = math.tointeger

local M = {}


-- Text.

-- Whether a string is UTF-8: RFC 3629, section 4. The core knows, which
-- encodes text and bytes as two different things.
---@param s string
---@return boolean
function M.is_text(s)
  if not s:find "[\128-\255]" then return true end
  return core.cbor.encode(s):byte() >= 0x60
end

-- nginx has one of its own, and may be without luasocket.
local function base64(s)
  local ngx = rawget(_G, "ngx")
  if ngx then return ngx.encode_base64(s) end
  return (require "mime".b64(s))
end



-- In.

local reader -- cjson in a state of its own

local function cjson()
  if not reader then
    reader = require "cjson".new()
    reader.decode_invalid_numbers(false)
    reader.decode_max_depth(64)
  end
  return reader
end

local EXACT = 2^53

-- Whether this Lua holds the whole number that the digits are.
local function fits(digits)
  local n = tonumber(digits)
  if tointeger then return math.type(n) == "integer" end
  return n >= -EXACT and n <= EXACT and ("%.0f"):format(n) == digits
end

local LONG, HUGE = ("%d"):rep(16), "[eE]%+?%d%d%d"

-- Why a number that stands outside of strings cannot be held; nil: all can.
local function excess(bare)
  if not bare:find(LONG) and not bare:find(HUGE) then return nil end
  for number in bare:gmatch "%-?%d[%d.eE+-]*" do
    if number:find "^%-?%d+$" then
      if not fits(number) then return "a whole number beyond what Lua holds" end
    elseif math.abs(tonumber(number)) == huge then
      return "a number beyond what Lua holds"
    end
  end
end

-- Makes integers of whole numbers that are floats.
local function whole(value)
  if not tointeger then
    return value
  elseif type(value) == "number" then
    return value >= -EXACT and value <= EXACT and tointeger(value) or value
  elseif type(value) == "table" then
    for k, v in pairs(value) do
      local kind = type(v)
      if kind == "number" or kind == "table" then value[k] = whole(v) end
    end
  end
  return value
end

-- What cjson found, in short: not what the text holds.
local function reason(message)
  return tostring(message):gsub("^.-: ", "", 1):gsub("%s+$", "")
end

-- Whether cjson's value of a text may not be the value of it.
local function is_doubtful(text)
  return text:find "%[%s*%]" or text:find(LONG) or text:find(HUGE)
end

-- The value of a text that may hold what cjson does not tell, or tells wrong.
local function exact(text, value)
  local bare = text:gsub("\\.", ""):gsub('"[^"]*"', '""')
  local why = excess(bare)
  if why then return nil, why end
  if bare:find "%[%s*%]" or tointeger and bare:find(LONG) then
    value = require "dkjson".decode(text, 1, NULL, nil, ARRAY)
  end
  return whole(value)
end

-- The value of a JSON text: nil and why when it has none, in words that hold
-- nothing of the text. null is respool.null; empty arrays stay arrays.
---@param text string
---@return any, string?
function M.decode(text)
  if not M.is_text(text) then return nil, "not UTF-8" end
  local ok, value = pcall(cjson().decode, text)
  if not ok then return nil, (reason(value)) end
  if is_doubtful(text) then return exact(text, value) end
  return whole(value)
end


-- Out.

local SHORT = {
  ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r",
  ["\t"] = "\\t", ["\b"] = "\\b", ["\f"] = "\\f",
}

local function escape(c)
  return SHORT[c] or ("\\u%04x"):format(c:byte())
end

local function quote(s)
  return '"' .. s:gsub('[%z\1-\31"\\\127]', escape) .. '"'
end

local function number(n)
  if n ~= n or n == huge or n == -huge then return "null" end
  if tointeger and math.type(n) == "integer" then return ("%d"):format(n) end
  if n % 1 == 0 and n >= -EXACT and n <= EXACT then
    return ("%.0f"):format(n)
  end
  for digits = 14, 16 do
    local text = ("%%.%dg"):format(digits):format(n)
    if tonumber(text) == n then return text end
  end
  return ("%.17g"):format(n)
end

-- Whether the keys are exactly 1 to n; an empty table is by its mark.
local function is_array(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  if n == 0 then return getmetatable(t) == ARRAY end
  return n == #t
end

local function sorted_keys(t)
  local keys = {}
  for k in pairs(t) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b)
    if type(a) == type(b) and type(a) ~= "boolean" then return a < b end
    return tostring(a) < tostring(b)
  end)
  return keys
end

local write

-- Puts parts between brackets: in one line, or each in its own.
local function enclose(open, parts, close, indent, depth)
  if #parts == 0 then return open .. close end
  if not indent then return open .. table.concat(parts, ",") .. close end
  local pad = "\n" .. (" "):rep(indent * (depth + 1))
  return open .. pad .. table.concat(parts, "," .. pad)
    .. "\n" .. (" "):rep(indent * depth) .. close
end

local function array(t, indent, depth)
  local parts = {}
  for i, v in ipairs(t) do parts[i] = write(v, indent, depth + 1) end
  return enclose("[", parts, "]", indent, depth)
end

local function key_text(k)
  if type(k) == "string" then
    return quote(M.is_text(k) and k or "$base64:" .. base64(k))
  end
  return quote(type(k) == "number" and number(k) or tostring(k))
end

local function object(t, indent, depth)
  local parts = {}
  for i, k in ipairs(sorted_keys(t)) do
    parts[i] = key_text(k) .. (indent and ": " or ":")
      .. write(t[k], indent, depth + 1)
  end
  return enclose("{", parts, "}", indent, depth)
end

local function string_text(s, indent, depth)
  if M.is_text(s) then return quote(s) end
  return enclose("{", {
    '"$base64":' .. (indent and " " or "") .. quote(base64(s)),
  }, "}", indent, depth)
end

function write(value, indent, depth)
  local kind = type(value)
  if kind == "string" then return string_text(value, indent, depth) end
  if kind == "number" then return number(value) end
  if kind == "boolean" then return tostring(value) end
  if kind ~= "table" then return "null" end
  if is_array(value) then return array(value, indent, depth) end
  return object(value, indent, depth)
end

-- A JSON text in one line, or with `indent` spaces a level. Anything that is
-- no value of CBOR is written as null.
---@param value any
---@param indent integer?
---@return string
function M.encode(value, indent)
  return write(value, indent, 0)
end

-- A copy of an item or a letter for JSON: without the stored bytes, unless
-- there is no payload, and with its history as a list.
---@param record table
---@return table
function M.record(record)
  local copy = {}
  for name, value in pairs(record) do copy[name] = value end
  copy.header_bytes = nil
  if record.payload ~= nil then copy.bytes = nil end
  if copy.history then copy.history = core.cbor.array(copy.history) end
  return copy
end

return M
