-- SPDX-License-Identifier: MIT
--
-- Exact JSON: any value of CBOR as JSON that reads back as the same value.
-- What JSON can say is said plainly, for people and their tools. The rest is
-- an object with one member, whose name says what it is:
--
--   { "$base64": "/w==" }    a string that is not UTF-8
--   { "$float": "3" }        a float that is a whole number, inf, nan
--   { "$map": [[1, "a"]] }   a map with keys other than strings of UTF-8 that
--                            do not begin with "$"

local core = require "respool.core"
local compat = require "respool.support.compat"
local json = require "respool.support.json"

local cbor, null = core.cbor, core.cbor.null
local array_mt = cbor.array_mt

local M = {}

local DOLLAR = ("$"):byte()
local EXACT = 2^53  -- integers up to it are doubles, too
local DEPTH = 20    -- tables within tables: each may take three in JSON

local function base64(s)
  return require "mime".b64(s)
end

-- The bytes, if this is their base64 and nothing besides.
local function from_base64(text)
  local bytes = require "mime".unb64(text) or ""
  return (base64(bytes) or "") == text and bytes or nil
end


-- Writing: a value as one that JSON knows.

local wrap

local function is_name(key)
  return type(key) == "string" and key:byte() ~= DOLLAR and json.is_text(key)
end

local function wrap_pairs(t)
  local list = {}
  for key, value in pairs(t) do
    table.insert(list, cbor.array { wrap(key), wrap(value) })
  end
  return { ["$map"] = cbor.array(list) }
end

local function wrap_table(t)
  local out = {}
  if getmetatable(t) == array_mt then
    for i = 1, #t do out[i] = wrap(t[i]) end
    return cbor.array(out)
  end
  for key, value in pairs(t) do
    if not is_name(key) then return wrap_pairs(t) end
    out[key] = wrap(value)
  end
  return out
end

local function is_float(x)
  if x ~= x or x % 1 ~= 0 then return x - x ~= 0 end -- nan, inf
  if math.type then return math.type(x) == "float" end
  return x > EXACT or x < -EXACT or x == 0 and 1 / x < 0
end

function wrap(value)
  local kind = type(value)
  if kind == "table" then return wrap_table(value) end
  if kind == "string" and not json.is_text(value) then
    return { ["$base64"] = base64(value) }
  elseif kind == "number" and is_float(value) then
    return { ["$float"] = ("%.17g"):format(value) }
  end
  return value
end

-- Whether a value is nested no deeper than readers of JSON go, and holds no
-- integer whose digits alone are too large for one.
---@param value any
---@return boolean
function M.fits(value, depth)
  if type(value) ~= "table" then return value ~= math.mininteger end
  depth = (depth or 0) + 1
  for key, member in pairs(value) do
    if not M.fits(member, depth) or not M.fits(key, depth) then
      return false
    end
  end
  return depth <= DEPTH
end

-- The JSON of a value that fits, as cbor.decode() makes them: arrays are
-- marked.
---@param value any
---@return string
function M.encode(value)
  return json.encode(wrap(value))
end


-- Reading.

local unwrap

local TAGS = { ["$base64"] = from_base64 }

local NAMED = {
  inf = math.huge, ["-inf"] = -math.huge, nan = 0 / 0, ["-nan"] = 0 / 0,
  ["-0"] = -1 / math.huge,
}

TAGS["$float"] = function(text)
  return NAMED[text] or tonumber(text) and tonumber(text) + 0.0
end

TAGS["$map"] = function(list)
  local t = {}
  for _, pair in ipairs(list) do t[unwrap(pair[1])] = unwrap(pair[2]) end
  return t
end

local function unwrap_tag(tag, value)
  local ok, result = pcall(TAGS[tag] or error, value)
  if ok and result ~= nil then return result end
  error(("'%s' is not understood"):format(json.is_text(tag) and tag or "$"), 0)
end

-- In place: nobody else has it.
local function unwrap_table(t)
  local tag, value = next(t)
  if type(tag) == "string" and tag:byte() == DOLLAR then
    return unwrap_tag(tag, value)
  end
  for key, member in pairs(t) do t[key] = unwrap(member) end
  return t[1] ~= nil and cbor.array(t) or t
end

function unwrap(value)
  if type(value) == "table" and value ~= null then
    return unwrap_table(value)
  end
  return value
end

-- The value of what encode() wrote; nil and why when it is something else.
---@param text string
---@return any, string?
function M.decode(text)
  local value, why = json.decode(text)
  if value == nil then return nil, why end
  local ok, result = compat.pcall(unwrap, value)
  if ok then return result end
  return nil, tostring(result)
end

return M
