-- SPDX-License-Identifier: MIT
--
-- Spans as OTLP has them in JSON, under the names of OpenTelemetry's semantic
-- conventions for messaging. Numbers of 64 bits are strings there.

local context = require "respool.otlp.context"
local text_of = require "respool.support.text"
local visible = require "respool.support.visible"

local M = {}

-- By operation: the type of the conventions, and the kind of the span.
local CLIENT, PRODUCER, CONSUMER = 3, 4, 5
local TYPES = {
  push = { "send", PRODUCER }, take = { "receive", CLIENT },
  handle = { "process", CONSUMER }, settle = { "settle", CLIENT },
}

local ERROR = 2        -- of a status
local LINKS = 128      -- of a span at most
local LONGEST = 1024   -- bytes of a text

-- Any bytes as a text for JSON.
---@param value string
---@return string
function M.text(value)
  if not text_of.is_utf8(value) then value = visible.clean(value) end
  return text_of.cut(value, LONGEST)
end

local function any_value(value)
  if type(value) == "string" then return { stringValue = M.text(value) } end
  if type(value) == "boolean" then return { boolValue = value } end
  return { intValue = ("%.0f"):format(value) }
end

-- A list of attributes: those of these pairs that have a value.
---@param pairs_ { [1]: string, [2]: any }[]
---@return table[]
function M.attributes(pairs_)
  local list = {}
  for _, pair in ipairs(pairs_) do
    if pair[2] ~= nil then
      list[#list + 1] = { key = pair[1], value = any_value(pair[2]) }
    end
  end
  return list
end

-- Seconds since 1970 as nanoseconds; a double knows microseconds of them.
---@param seconds number
---@return string
function M.nanoseconds(seconds)
  local whole = math.floor(seconds)
  return ("%.0f%06.0f000"):format(whole, math.floor((seconds - whole) * 1e6))
end


-- Links.

local function link_to(c)
  return { traceId = c.trace, spanId = c.id, traceState = c.state }
end

-- The contexts of the items of a batch.
---@param batch respool.batch
---@return respool.otlp.context[] contexts, integer left_out
function M.contexts(batch)
  local list = {}
  for i = 1, math.min(#batch, LINKS) do
    list[#list + 1] = context.of(batch:item(i).headers)
  end
  return list, #batch - math.min(#batch, LINKS)
end


-- The whole.

-- What a span is of; made by start() of the tracer.
---@class respool.otlp.span
---@field context respool.otlp.context
---@field parent respool.otlp.context?
---@field links respool.otlp.context[]
---@field dropped_links integer?
---@field operation respool.operation
---@field queue string
---@field carried boolean?
---@field at number
---@field began number by the monotonic clock
---@field seconds number how long it took
---@field items integer?
---@field several boolean? of a batch
---@field id integer? of the item
---@field deliveries integer?
---@field attempts integer?

-- The class of an error: the conventions want few different ones.
---@param result respool.trace_result
---@return string?
function M.error_type(result)
  return result.code or result.group or result.error and "_OTHER" or nil
end

-- Outcomes that are no failures, although there may be an error with them.
local FINE = { release = true, snooze = true, hold = true, drop = true }

---@param span respool.otlp.span
---@param result respool.trace_result
---@return string? error.type of a failure
function M.failure(span, result)
  if span.operation == "handle" and FINE[result.outcome] then return nil end
  local failed = result.outcome == "retry" or result.outcome == "dead"
  return M.error_type(result) or failed and "_OTHER" or nil
end

local function attributes_of(span, result, failure)
  local kind = TYPES[span.operation][1]
  return M.attributes {
    { "messaging.system", "respool" },
    { "messaging.operation.name", span.operation },
    { "messaging.operation.type", span.carried and "create" or kind },
    { "messaging.destination.name", span.queue },
    { "messaging.batch.message_count", span.several and span.items or nil },
    { "messaging.message.id", span.id and ("%.0f"):format(span.id) or nil },
    { "messaging.respool.deliveries", span.deliveries },
    { "messaging.respool.attempts", span.attempts },
    { "messaging.respool.outcome", result.outcome },
    { "error.type", failure },
  }
end

local function links_of(span)
  local links = {}
  for i, c in ipairs(span.links) do links[i] = link_to(c) end
  return links[1] and links or nil
end

-- A push whose items have a context already does not give them its own.
local function kind_of(span)
  if span.operation == "push" and span.links[1] then return CLIENT end
  return TYPES[span.operation][2]
end

-- A span that has ended, as OTLP has it.
---@param span respool.otlp.span
---@param result respool.trace_result
---@return table
function M.encode(span, result)
  local failure = M.failure(span, result)
  local c = span.context
  return {
    traceId = c.trace, spanId = c.id, traceState = c.state,
    parentSpanId = span.parent and span.parent.id,
    flags = c.sampled and 1 or 0,
    name = M.text(("%s %s"):format(span.operation, span.queue)),
    kind = kind_of(span),
    startTimeUnixNano = M.nanoseconds(span.at),
    endTimeUnixNano = M.nanoseconds(span.at + span.seconds),
    attributes = attributes_of(span, result, failure),
    links = links_of(span),
    droppedLinksCount = (span.dropped_links or 0) > 0 and span.dropped_links
      or nil,
    status = failure and {
      code = ERROR, message = result.error and M.text(result.error) or nil,
    } or nil,
  }
end

-- The body of a request with these spans.
---@param resource table
---@param spans table[]
---@param version string
---@return table
function M.body(resource, spans, version)
  return { resourceSpans = { {
    resource = resource,
    scopeSpans = { {
      scope = { name = "respool", version = version }, spans = spans,
    } },
  } } }
end

return M
