-- SPDX-License-Identifier: MIT
--
-- The context of a span, as headers carry it (W3C Trace Context): traceparent
-- has the numbers of trace and span and whether the trace is sampled,
-- tracestate what others have to say of it.

local core = require "respool.core"

local M = {}

---@class respool.otlp.context
---@field trace string 32 hexadecimal digits
---@field id string 16 of the span
---@field sampled boolean
---@field state string? tracestate, as long as others must pass it on

local BLOCK = 1024 -- bytes of randomness that are read at once
local random, at, reader = "", 1, nil

-- `n` random bytes in hexadecimal digits. What a parent has read is the
-- parent's: two processes must not draw the same.
local function digits(n)
  local pid = core.process.self()
  if at + n - 1 > #random or reader ~= pid then
    local file = assert(io.open("/dev/urandom", "rb"))
    random, at, reader = file:read(BLOCK), 1, pid
    file:close()
  end
  local bytes = random:sub(at, at + n - 1)
  at = at + n
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

-- A number that is not zero.
local function number(n)
  local text
  repeat text = digits(n) until text:find "[^0]"
  return text
end

-- The context of a new span: a child of `parent`; without one it begins a
-- trace, and `sample` is the part of these that are sampled.
---@param parent respool.otlp.context?
---@param sample number
---@return respool.otlp.context
function M.new(parent, sample)
  if parent then
    return { trace = parent.trace, id = number(8), sampled = parent.sampled,
             state = parent.state }
  end
  local trace = number(16)
  local chance = tonumber(trace:sub(-12), 16) / 2^48
  return { trace = trace, id = number(8), sampled = chance < sample }
end

local FORM = "^(%x%x)%-(" .. ("[0-9a-f]"):rep(32) .. ")%-("
  .. ("[0-9a-f]"):rep(16) .. ")%-(%x%x)(.*)$"

local LONGEST = 512 -- bytes of a tracestate

-- A tracestate; nil: none, or one that no collector would take.
local function state_of(text)
  return type(text) == "string" and #text <= LONGEST
    and text:find "^[\t -~]+$" and text or nil
end

-- The context that headers carry; nil: none, or none that is valid.
---@param headers any
---@return respool.otlp.context?
function M.of(headers)
  local text = type(headers) == "table" and headers.traceparent
  if type(text) ~= "string" then return nil end
  local version, trace, id, flags, rest = text:match(FORM)
  if not version or version == "ff" or version == "00" and rest ~= ""
     or not trace:find "[^0]" or not id:find "[^0]" then
    return nil
  end
  return {
    trace = trace, id = id, sampled = tonumber(flags, 16) % 2 == 1,
    state = state_of(headers.tracestate),
  }
end

-- The headers that carry a context.
---@param c respool.otlp.context
---@return table<string, string>
function M.headers(c)
  return {
    traceparent = ("00-%s-%s-%s"):format(c.trace, c.id,
                                         c.sampled and "01" or "00"),
    tracestate = c.state,
  }
end

return M
