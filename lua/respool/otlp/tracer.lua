-- SPDX-License-Identifier: MIT
--
-- respool.otlp: a tracer that sends spans and metrics to a collector, such as
-- the OpenTelemetry Collector, Jaeger or Tempo. The rules of traces:
--
--   push     continues the trace of the handler that pushes, or of the
--            traceparent among the headers given; else it begins one. Items
--            without a traceparent get that of the push.
--   handle   continues the trace of its item, and links to it; of a batch it
--            begins a trace, with links to all
--   take, settle   likewise: of a single item they continue its trace
--
-- So the deliveries of an item, its retries, and those after a replay, export,
-- import or move lie in the trace of its push.

local compat = require "respool.support.compat"
local context = require "respool.otlp.context"
local core = require "respool.core"
local exporter = require "respool.otlp.exporter"
local headers_of = require "respool.http.headers"
local logger = require "respool.observe.logger"
local metrics = require "respool.otlp.metrics"
local options = require "respool.support.options"
local spans = require "respool.otlp.spans"
local timing = require "respool.support.timing"
local url_of = require "respool.http.url"

local M = {}

---@class respool.otlp_options
---@field url string? of the collector, such as "http://localhost:4318"; paths
--- such as /v1/traces are added
---@field traces string|boolean? where spans go, if not there; false: nowhere
---@field metrics string|boolean? where metrics go, if not there; false: nowhere
---@field headers table<string, string>? to be sent along
---@field service string? service.name; "respool"
---@field resource table<string, string>? further attributes of the resource
---@field sample number? the part of traces that begin here to be sent, 0 to 1;
--- 1. Others are sent as their traceparent says
---@field interval respool.seconds? between two requests, unless a batch is
--- full; 5
---@field report respool.seconds? between two reports of metrics; 60
---@field batch integer? spans in a request; 256
---@field buffer integer? spans kept in memory at most; 2048
---@field timeout respool.seconds? of a request; 10
---@field ca_file string? certificates to trust, in place of the system's
---@field log respool.log? is told of spans that were dropped

---@class respool.otlp.settings : respool.otlp_options
---@field lines string[] the headers

---@class respool.otlp_stats
---@field sent integer spans that the collector has taken
---@field dropped integer spans that it has not
---@field waiting integer spans in memory
---@field error string? why the last were dropped

local function url(value)
  local parsed, expected = url_of.parse(value)
  return parsed and value or nil, expected
end

-- Where one kind of records goes.
local function signal(value)
  if type(value) == "boolean" then return value end
  return url(value), "a URL, or false"
end

local function part(value)
  if type(value) == "number" and value >= 0 and value <= 1 then return value end
  return nil, "a number from 0 to 1"
end

local function headers(value)
  local kept, all = headers_of.sendable(value)
  if type(value) == "table" and all then return headers_of.lines(kept) end
  return nil, "a table of headers"
end

local function attributes(value)
  for name, text in pairs(type(value) == "table" and value or { false }) do
    if type(name) ~= "string" or type(text) ~= "string" then
      return nil, "a table of strings by name"
    end
  end
  return value
end

local FORM = {
  of = "respool.otlp", url = url, traces = signal, metrics = signal,
  headers = headers, service = options.string,
  resource = attributes, sample = part, interval = options.positive_seconds,
  report = options.positive_seconds,
  batch = options.whole(1, 2^16), buffer = options.whole(1, 2^20),
  timeout = options.positive_seconds, ca_file = options.string,
  log = options.callable,
}

local DEFAULTS = {
  sample = 1, interval = 5, report = 60, batch = 256, buffer = 2048,
  timeout = 10,
}

local PATHS = { traces = "/v1/traces", metrics = "/v1/metrics" }

local function settings_of(given)
  local o = options.read(FORM, given, 1)
  for name, path in pairs(PATHS) do
    if o[name] == nil or o[name] == true then
      if not o.url then
        compat.misuse "respool.otlp: option 'url' is missing"
      end
      o[name] = o.url:gsub("/+$", "") .. path
    end
  end
  for name, value in pairs(DEFAULTS) do
    if o[name] == nil then o[name] = value end
  end
  o.lines, o.log = o.headers or {}, o.log or logger.new()
  return o
end

-- Whom the spans are of.
local function resource_of(o)
  local list = {
    { "service.name", o.service or (o.resource or {})["service.name"]
      or "respool" },
    { "telemetry.sdk.name", "respool" }, { "telemetry.sdk.language", "lua" },
    { "telemetry.sdk.version", core.version },
    { "process.pid", (core.process.self()) },
  }
  local known = {}
  for _, pair in ipairs(list) do known[pair[1]] = true end
  for name, text in pairs(o.resource or {}) do
    if not known[name] then list[#list + 1] = { name, text } end
  end
  return { attributes = spans.attributes(list) }
end


-- Spans.

-- The context of the only item that something is about.
local function of_item(event)
  if event.operation == "handle" and event.item then
    return context.of(event.headers)
  end
end

local function links_of(event)
  if event.operation == "push" or event.item then
    return { context.of(event.headers) }
  end
  return {}
end

-- The links of a batch; the context of its item where that is the only one.
local function look_at(span, batch)
  span.links, span.dropped_links = spans.contexts(batch)
  span.several = #batch > 1
  if #batch == 1 then
    local only = batch:item(1)
    span.id, span.deliveries, span.attempts =
      only.id, only.deliveries, only.attempts
  end
  return not span.several and span.links[1] or nil
end

local function new_span(event)
  local span = {
    operation = event.operation, queue = event.queue,
    began = core.mono(), items = event.items, carried = event.carried,
    several = (event.items or 1) > 1,
  }
  span.links = links_of(event)
  local item = event.item
  if item then
    span.id, span.deliveries, span.attempts =
      item.id, item.deliveries, item.attempts
  end
  local only = of_item(event) or event.operation == "push" and span.links[1]
  if event.batch then only = look_at(span, event.batch) end
  return span, only
end

-- The parent of a span: within a handler that one, unless the span is about
-- a single item, which has a trace.
local function parent_of(event, only)
  local outer = event.parent and event.parent.context
  if event.operation == "handle" then return only or outer end
  return outer or only
end

local APART = 0.002 -- seconds

-- The time by the store's clock, which counts milliseconds: as long as both
-- agree, by the monotonic one since the first look, so that what follows from
-- something does not begin before it.
local function moment(tracer, at, mono)
  local since = tracer.clock and tracer.clock + (mono - tracer.clock_at) / 1e6
  if since and math.abs(since - at) < APART then return since end
  tracer.clock, tracer.clock_at = at, mono
  return at
end

local function start(tracer, event)
  local span, only = new_span(event)
  if not tracer.clock then tracer.sums = metrics.new(event.at) end
  span.at = moment(tracer, event.at, span.began)
  span.parent = parent_of(event, only or nil)
  span.context = context.new(span.parent, tracer.o.sample)
  local given = event.operation == "push" and span.links[1]
  return span, not given and context.headers(span.context) or nil
end

-- Adds a report of the metrics.
local function report(tracer)
  local now = tracer.clock + (core.mono() - tracer.clock_at) / 1e6
  tracer.reported_at = core.mono()
  if #tracer.sums.list > 0 then
    tracer.metrics:replace(tracer.sums:report(now))
  end
end

local function tick(tracer, polled)
  if tracer.traces then tracer.traces:tick(polled) end
  if not tracer.metrics then return end
  if tracer.clock
     and core.mono() - tracer.reported_at >= tracer.o.report * 1e6 then
    report(tracer)
  end
  tracer.metrics:tick(polled)
end

local function close(tracer, seconds)
  local ends = core.mono() + seconds * 1e6
  local ok = not tracer.traces or tracer.traces:close(seconds)
  if not tracer.metrics then return ok end
  if tracer.clock then report(tracer) end
  return tracer.metrics:close(math.max(0, (ends - core.mono()) / 1e6)) and ok
end

local LOOK = 1 -- seconds between two calls of a host

-- Where a host calls now and then: goes on with requests though nothing else
-- happens, and sends the rest when the process ends.
local function keep_on(tracer)
  tracer.kept = timing.every(LOOK, function(ending)
    if ending then return close(tracer, tracer.o.timeout) end
    tick(tracer, true)
  end) or "by nobody"
end

-- A take knows only at its end which items it is about.
local function adopt(span, batch)
  local only = look_at(span, batch)
  if only and not span.parent then
    span.parent = only
    span.context = {
      trace = only.trace, id = span.context.id, sampled = only.sampled,
      state = only.state,
    }
  end
end

local function finish(tracer, span, result)
  span.seconds = (core.mono() - span.began) / 1e6
  if span.operation == "take" then
    if result.items == 0 and not result.error then return end
    span.items = result.items
    if result.batch then adopt(span, result.batch) end
  end
  span.id = span.id or not span.several and result.id or nil
  tracer.sums:count(span, result)
  if tracer.traces and span.context.sampled then
    tracer.traces:add(spans.encode(span, result))
  end
  if not tracer.kept then keep_on(tracer) end
  tick(tracer, true)
end


-- The whole.

-- A tracer, for the option `tracer` of respool.open. Requests go on within
-- queue:work(); a program that only pushes calls tick() now and then. At the
-- end close(seconds) sends what is left. Within nginx a timer does both. A
-- process that was forked needs its own.
---@param given respool.otlp_options
---@return respool.otlp_tracer
function M.new(given)
  local o = settings_of(given)
  local resource = resource_of(o)
  local tracer = { o = o, reported_at = core.mono() }
  tracer.traces = o.traces and exporter.new(o, o.traces, "spans",
    function(list) return spans.body(resource, list, core.version) end)
  -- A report holds all that those before it held: one waits at most.
  local one = setmetatable({ batch = 1 }, { __index = o })
  tracer.metrics = o.metrics and exporter.new(one, o.metrics, "reports",
    function(list) return metrics.body(resource, list[1], core.version) end)
  ---@class respool.otlp_tracer : respool.tracer
  return {
    start = function(event) return start(tracer, event) end,
    finish = function(span, result) finish(tracer, span, result) end,
    -- Goes on with requests, waiting for nothing.
    tick = function(polled) tick(tracer, polled == true) end,
    -- Sends all there is, for up to so many seconds (`timeout`): false when
    -- something could not be sent, now or before.
    close = function(seconds) return close(tracer, seconds or o.timeout) end,
    ---@return respool.otlp_stats
    stats = function()
      return tracer.traces and tracer.traces:stats()
        or { sent = 0, dropped = 0, waiting = 0 }
    end,
  }
end

return M
