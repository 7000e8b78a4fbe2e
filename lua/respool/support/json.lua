-- SPDX-License-Identifier: MIT
--
-- JSON for payloads, both ways.
--
-- In: RFC 8259, and nothing besides. lua-cjson reads; what it lets pass that is
-- no JSON, such as `1.` and a line's end in a string, is looked for where a
-- text has the signs of it. It knows no integers and no empty arrays: whole
-- numbers are made integers again, and the few texts that hold `[]` or a
-- number of 16 digits are read by dkjson, once cjson has found them to be JSON.
-- A number that this Lua cannot hold is refused: a whole one beyond its
-- integers (of LuaJIT and 5.1: beyond 2^53), any beyond a double. So is half of
-- a surrogate pair, which is no character. Of a name that an object has twice
-- the last counts.
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

local INTEGER = "a whole number beyond what Lua holds"
local DOUBLE = "a number beyond what a double holds"

-- Why a number is none, or none that this Lua holds; nil when it is one.
local function wrong_number(token)
  local rest = token:match "^-?[1-9]%d*(.*)$" or token:match "^-?0(.*)$"
  if rest == "" then
    local n = tonumber(token)
    if tointeger then return math.type(n) ~= "integer" and INTEGER or nil end
    local same = ("%.0f"):format(n) == token and n >= -EXACT and n <= EXACT
    return not same and INTEGER or nil
  end
  rest = rest and (rest:match "^%.%d+(.*)$" or rest)
  rest = rest and (rest:match "^[eE][+-]?%d+(.*)$" or rest)
  if rest ~= "" then return "a number that is not JSON's" end
  local n = tonumber(token)
  return (n == huge or n == -huge) and DOUBLE or nil
end

-- The same of the first such number in a text without its strings.
local function wrong_numbers(bare)
  for token in bare:gmatch "[%d.+-][%w.+-]*" do
    local why = wrong_number(token)
    if why then return why end
  end
end

-- Signs of a number that cjson reads although it is not JSON's or does not
-- fit; most texts have none.
local LONG = ("%d"):rep(16)
local SIGNS = { LONG, "%d%.%D", "%d%.$", "%-%.", "[eE]%+?%d%d" }

local function has_sign(text)
  for _, sign in ipairs(SIGNS) do
    if text:find(sign) then return true end
  end
end

-- Why a text is no JSON although cjson reads it.
local function fault(text)
  if text:find "[%z\1-\8\11\12\14-\31]" then return "a control character" end
  local lines = text:find "[\t\n\r]"
  if not lines and not has_sign(text) then return nil end
  local plain = text:gsub("\\.", "")
  for inside in plain:gmatch '"([^"]*)"' do
    if lines and inside:find "[\t\n\r]" then return "a control character" end
  end
  return wrong_numbers((plain:gsub('"[^"]*"', '""')))
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

-- The value of a JSON text: nil and why when it has none, in words that hold
-- nothing of the text. null is respool.null; empty arrays stay arrays.
---@param text string
---@return any, string?
function M.decode(text)
  if not M.is_text(text) then return nil, "not UTF-8" end
  local ok, value = pcall(cjson().decode, text)
  if not ok then return nil, (reason(value)) end
  local why = fault(text)
  if why then return nil, why end
  if text:find "%[%s*%]" or tointeger and text:find(LONG) then
    value = require "dkjson".decode(text, 1, NULL, nil, ARRAY)
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

-- A copy of an item or a dead letter for JSON: without the stored bytes, unless
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
