-- SPDX-License-Identifier: MIT
--
-- JSON for payloads, both ways.
--
-- In: lua-cjson reads, and is strict. It knows no integers and no empty
-- arrays, though: whole numbers are made integers again, and the few texts
-- that hold `[]` or a number of 16 digits are read by dkjson, once cjson has
-- found them to be JSON. A whole number that this Lua cannot hold is refused.
--
-- Out: of what JSON does not know, NaN and infinities become null, map keys
-- that are no strings become the strings they are written as, and a string
-- that is not UTF-8 becomes {"$base64": "..."}. Map keys are sorted. Numbers
-- are written so that they read back as the same ones, which is why lua-cjson,
-- of 14 digits, does not write them.

local core = require "respool.core"

local NULL, ARRAY = core.cbor.null, core.cbor.array_mt
local huge = math.huge
local tointeger = math.tointeger

local M = {}


-- Text.

local length = (rawget(_G, "utf8") or {}).len
local strict = length and not length "\237\160\128" -- 5.3 lets surrogates pass

local UTF8 = {
  "^[\1-\127]+", "^[\194-\223][\128-\191]",
  "^\224[\160-\191][\128-\191]", "^[\225-\236\238\239][\128-\191][\128-\191]",
  "^\237[\128-\159][\128-\191]", "^\240[\144-\191][\128-\191][\128-\191]",
  "^[\241-\243][\128-\191][\128-\191][\128-\191]",
  "^\244[\128-\143][\128-\191][\128-\191]", "^%z+",
}

local function step(s, at)
  for _, pattern in ipairs(UTF8) do
    local _, stop = s:find(pattern, at)
    if stop then return stop + 1 end
  end
end

-- Whether a string is UTF-8: RFC 3629, section 4.
---@param s string
---@return boolean
function M.is_text(s)
  if not s:find "[\128-\255]" then return true end
  if strict then return length(s) ~= nil end
  local at = 1
  while at and at <= #s do at = step(s, at) end
  return at ~= nil
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
  return n <= EXACT
end

-- The first whole number that does not fit; strings are passed over.
local function too_large(text)
  local bare = text:gsub("\\.", ""):gsub('"[^"]*"', '""')
  for number in bare:gmatch "%d[%d.eE+-]*" do
    if number:match "^%d+$" and not fits(number) then return number end
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

local function exact(text)
  if too_large(text) then return nil, "a whole number beyond what Lua holds" end
  return whole((require "dkjson".decode(text, 1, NULL, nil, ARRAY)))
end

-- The value of a JSON text: nil and why when it has none, in words that hold
-- nothing of the text. null is respool.null; empty arrays stay arrays.
---@param text string
---@return any, string?
function M.decode(text)
  if not M.is_text(text) then return nil, "not UTF-8" end
  local ok, value = pcall(cjson().decode, text)
  if not ok then return nil, (reason(value)) end
  if text:find("%[%s*%]") or text:find(("%d"):rep(16)) then
    return exact(text)
  end
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
    return M.is_text(k) and quote(k) or quote(require "mime".b64(k))
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
    '"$base64":' .. (indent and " " or "") .. quote((require "mime".b64(s))),
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

return M
