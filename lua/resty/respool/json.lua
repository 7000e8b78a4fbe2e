-- SPDX-License-Identifier: MIT
--
-- JSON of requests and answers. jansson takes tens of milliseconds for 1 MiB:
-- so what is long is converted in a thread while the light thread sleeps, a
-- few at a time, as jansson's tree takes up to a hundred times the text.

local core = require "respool.core"
local json = require "respool.support.json"
local waiting = require "resty.respool.waiting"

core.home(debug.getinfo(1, "S").source)

local M = {}

local SHORT = 8192  -- bytes, for which the event loop is held up to 1 ms
local MOST = 2      -- threads of this worker process
local PAUSE = 0.001 -- seconds between looks

local conversions = setmetatable({}, { __mode = "k" })

-- A light thread that was killed has left its conversion, which ends by itself.
local function is_busy()
  local n = 0
  for one in pairs(conversions) do
    if not one:poll() then n = n + 1 end
  end
  return n >= MOST
end

local function convert(name, bytes, layout)
  if #bytes <= SHORT or not waiting.can_yield() then
    return json.native[name](bytes, layout)
  end
  while is_busy() do ngx.sleep(PAUSE) end
  local one = json.native.start[name](bytes, layout)
  if not one then return json.native[name](bytes, layout) end
  conversions[one] = true
  repeat ngx.sleep(PAUSE) until one:poll()
  conversions[one] = nil
  return one:finish()
end

-- The CBOR of a JSON text; nil and why.
---@param text string
---@return string?, string?
function M.to_cbor(text)
  return convert("to_cbor", text)
end

-- The JSON of stored CBOR; nil when it is none.
---@param bytes string
---@param layout respool.json_layout?
---@return string?
function M.from_cbor(bytes, layout)
  return convert("from_cbor", bytes, layout)
end

-- The JSON of an item or a dead letter that a handle with the codec "raw" gave.
---@param record table
---@return string
function M.record(record)
  return json.record(record, false, M.from_cbor)
end

return M
