-- SPDX-License-Identifier: MIT
--
-- Metrics of a process under the names of OpenTelemetry's semantic conventions
-- for messaging: how long pushes, takes, settles and handlers took, how many
-- items were pushed and taken. They are sums since the process began, so that
-- a report which is lost is made up by the next. The figures of a whole store,
-- over all processes, are those of store:metrics().

local spans = require "respool.otlp.spans"

local M = {}

-- Upper bounds of histograms, in seconds, as the conventions advise.
local BOUNDS = {
  0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
}

local SERIES = 500     -- at most; those beyond are one
local CUMULATIVE = 2   -- of a temporality

local OPERATION = "messaging.client.operation.duration"
local PROCESS = "messaging.process.duration"
local COUNTERS = {
  push = "messaging.client.sent.messages",
  take = "messaging.client.consumed.messages",
}
local IS_COUNTER = { [COUNTERS.push] = true, [COUNTERS.take] = true }

---@class respool.otlp.metrics
---@field since number when the sums began
---@field series table<string, table> by name and attributes
---@field list table[] the same in order
local Metrics = {}
Metrics.__index = Metrics

---@param now number seconds since 1970
---@return respool.otlp.metrics
function M.new(now)
  return setmetatable({ since = now, series = {}, list = {} }, Metrics)
end

local function attributes_of(span, failure)
  return spans.attributes {
    { "messaging.system", "respool" },
    { "messaging.operation.name", span.operation },
    { "messaging.destination.name", span.queue },
    { "error.type", failure },
  }
end

local function new_series(metrics, name, key, attributes)
  local s = { name = name, attributes = attributes, n = 0, sum = 0 }
  if not IS_COUNTER[name] then
    s.buckets = {}
    for i = 1, #BOUNDS + 1 do s.buckets[i] = 0 end
  end
  metrics.series[key] = s
  table.insert(metrics.list, s)
  return s
end

-- The sums of these attributes; where there are too many, those of the rest.
local function series_of(metrics, name, span, failure)
  local key = table.concat({ name, span.operation, span.queue,
                             failure or "" }, "\0")
  local found = metrics.series[key]
  if found then return found end
  if #metrics.list < SERIES then
    return new_series(metrics, name, key, attributes_of(span, failure))
  end
  return metrics.series[name] or new_series(metrics, name, name,
    spans.attributes { { "otel.metric.overflow", true } })
end

local function bucket_of(seconds)
  for i, bound in ipairs(BOUNDS) do
    if seconds <= bound then return i end
  end
  return #BOUNDS + 1
end

-- Counts a span that has ended.
---@param span respool.otlp.span
---@param result respool.trace_result
function Metrics:count(span, result)
  local failure = spans.failure(span, result)
  local name = span.operation == "handle" and PROCESS or OPERATION
  local s, i = series_of(self, name, span, failure), bucket_of(span.seconds)
  s.n, s.sum, s.buckets[i] = s.n + 1, s.sum + span.seconds, s.buckets[i] + 1
  if not COUNTERS[span.operation] then return end
  s = series_of(self, COUNTERS[span.operation], span, failure)
  s.n = s.n + (span.items or 0)
end


-- As OTLP has them.

local function integer(n)
  return ("%.0f"):format(n)
end

local function point_of(s, since, now)
  local point = {
    attributes = s.attributes, startTimeUnixNano = spans.nanoseconds(since),
    timeUnixNano = spans.nanoseconds(now),
  }
  if not s.buckets then
    point.asInt = integer(s.n)
    return point
  end
  point.count, point.sum, point.bucketCounts = integer(s.n), s.sum, {}
  point.explicitBounds = BOUNDS
  for i, n in ipairs(s.buckets) do point.bucketCounts[i] = integer(n) end
  return point
end

local function metric_of(s, points)
  local data = { aggregationTemporality = CUMULATIVE, dataPoints = points }
  if s.buckets then
    return { name = s.name, unit = "s", histogram = data }
  end
  data.isMonotonic = true
  return { name = s.name, unit = "{message}", sum = data }
end

-- What was counted until now.
---@param now number seconds since 1970
---@return table[]
function Metrics:report(now)
  local list, by_name = {}, {}
  for _, s in ipairs(self.list) do
    local points = by_name[s.name]
    if not points then
      points = {}
      by_name[s.name] = points
      list[#list + 1] = metric_of(s, points)
    end
    points[#points + 1] = point_of(s, self.since, now)
  end
  return list
end

-- The body of a request with this report.
---@param resource table
---@param report table[]
---@param version string
---@return table
function M.body(resource, report, version)
  return { resourceMetrics = { {
    resource = resource,
    scopeMetrics = { {
      scope = { name = "respool", version = version }, metrics = report,
    } },
  } } }
end

return M
