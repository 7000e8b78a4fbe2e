-- SPDX-License-Identifier: MIT
--
-- A stand-in for an OpenTelemetry collector: it answers as a path says (see
-- http_endpoint.lua), and checks that what it is sent is OTLP in JSON, field by
-- field: a name that OTLP does not know fails as well.

local assert = require "luassert"
local endpoint = require "spec.helper.servers.http_endpoint"
local json = require "respool.support.json"

local M = {}


-- Shapes: functions of a value and of where it is, which raise.

local function fail(where, value, expected)
  error(("%s: %s is not %s"):format(where, tostring(value), expected), 0)
end

local function text(value, where)
  if type(value) ~= "string" then fail(where, value, "a string") end
end

local function like(pattern, expected)
  return function(value, where)
    text(value, where)
    if not value:match("^" .. pattern .. "$") then
      fail(where, value, expected)
    end
  end
end

local function whole(least, most)
  return function(value, where)
    if type(value) ~= "number" or value % 1 ~= 0 or value < least
       or value > most then
      fail(where, value, ("a number from %d to %d"):format(least, most))
    end
  end
end

local function number(value, where)
  if type(value) ~= "number" then fail(where, value, "a number") end
end

local function boolean(value, where)
  if type(value) ~= "boolean" then fail(where, value, "a boolean") end
end

local function list(shape)
  return function(value, where)
    if type(value) ~= "table" or #value == 0 then
      fail(where, value, "a list with something in it")
    end
    for name in pairs(value) do
      if type(name) ~= "number" then fail(where, name, "a number of a list") end
    end
    for i, entry in ipairs(value) do
      shape(entry, ("%s[%d]"):format(where, i))
    end
  end
end

-- An object: its fields by name; those whose names end with "?" may be missing.
local function object(fields)
  local known = {}
  for name, shape in pairs(fields) do
    known[name:gsub("%?$", "")] = { shape, name:sub(-1) == "?" }
  end
  return function(value, where)
    if type(value) ~= "table" then fail(where, value, "an object") end
    for name in pairs(value) do
      if not known[name] then fail(where, name, "a known field") end
    end
    for name, field in pairs(known) do
      local inner = ("%s.%s"):format(where, name)
      if value[name] ~= nil then
        field[1](value[name], inner)
      elseif not field[2] then
        fail(inner, nil, "there")
      end
    end
  end
end

local INTEGER = like("%d+", "an integer as a string")
local TRACE = like(("[0-9a-f]"):rep(32), "32 hexadecimal digits")
local SPAN = like(("[0-9a-f]"):rep(16), "16 hexadecimal digits")
local VALUE = object {
  ["stringValue?"] = text, ["intValue?"] = INTEGER, ["boolValue?"] = boolean,
}

local function value_of(value, where)
  VALUE(value, where)
  if next(value) == nil or next(value, next(value)) ~= nil then
    fail(where, "it", "one value")
  end
end

local ATTRIBUTES = list(object { key = text, value = value_of })
local RESOURCE = object { attributes = ATTRIBUTES }
local SCOPE = object { name = text, version = text }

local TRACES = object {
  resourceSpans = list(object {
    resource = RESOURCE,
    scopeSpans = list(object {
      scope = SCOPE,
      spans = list(object {
        traceId = TRACE, spanId = SPAN, ["parentSpanId?"] = SPAN,
        ["traceState?"] = text, flags = whole(0, 255), name = text,
        kind = whole(1, 5), startTimeUnixNano = INTEGER,
        endTimeUnixNano = INTEGER, attributes = ATTRIBUTES,
        ["droppedLinksCount?"] = whole(1, 2^31),
        ["links?"] = list(object {
          traceId = TRACE, spanId = SPAN, ["traceState?"] = text,
        }),
        ["status?"] = object { code = whole(0, 2), ["message?"] = text },
      }),
    }),
  }),
}

local POINT = {
  attributes = ATTRIBUTES, startTimeUnixNano = INTEGER, timeUnixNano = INTEGER,
}

local function point(fields)
  for name, shape in pairs(POINT) do fields[name] = shape end
  return list(object(fields))
end

local METRICS = object {
  resourceMetrics = list(object {
    resource = RESOURCE,
    scopeMetrics = list(object {
      scope = SCOPE,
      metrics = list(object {
        name = text, unit = text,
        ["sum?"] = object {
          aggregationTemporality = whole(2, 2), isMonotonic = boolean,
          dataPoints = point { asInt = INTEGER },
        },
        ["histogram?"] = object {
          aggregationTemporality = whole(2, 2),
          dataPoints = point {
            count = INTEGER, sum = number, bucketCounts = list(INTEGER),
            explicitBounds = list(number),
          },
        },
      }),
    }),
  }),
}

-- Raises what is wrong with the body of a request to a path.
function M.check(path, body)
  local value = assert(json.decode(body))
  local shape = path:find "/v1/traces$" and TRACES or METRICS
  shape(value, "body")
  return value
end


-- The collector.

local Collector = {}
Collector.__index = Collector

-- Starts one, which is ended after the spec.
function M.start()
  local server = endpoint.start()
  return setmetatable({ server = server }, Collector)
end

-- Its URL; each request is answered by the next of these actions.
function Collector:url(actions)
  return self.server:url(actions or "200")
end

-- Attributes as a table by key.
local function plain(attributes)
  local by_key = {}
  for _, a in ipairs(attributes or {}) do
    local v = a.value
    assert.is_nil(by_key[a.key])
    by_key[a.key] = v.stringValue or v.intValue and tonumber(v.intValue)
      or v.boolValue
  end
  return by_key
end

-- The requests to this path, checked.
function Collector:bodies(path)
  local bodies = {}
  for _, request in ipairs(self.server:requests()) do
    assert.equal("POST", request.method)
    assert.equal("application/json", request.headers["content-type"])
    if request.path:sub(-#path) == path then
      bodies[#bodies + 1] = M.check(path, request.body)
    end
  end
  return bodies
end

-- The spans it was sent, in order, with their attributes as `fields`.
function Collector:spans()
  local spans = {}
  for _, body in ipairs(self:bodies "/v1/traces") do
    local of = body.resourceSpans[1]
    for _, span in ipairs(of.scopeSpans[1].spans) do
      span.fields = plain(span.attributes)
      span.resource = plain(of.resource.attributes)
      spans[#spans + 1] = span
    end
  end
  return spans
end

-- The metrics of the last report, by name.
function Collector:metrics()
  local bodies, by_name = self:bodies "/v1/metrics", {}
  local last = bodies[#bodies].resourceMetrics[1]
  for _, metric in ipairs(last.scopeMetrics[1].metrics) do
    by_name[metric.name] = metric
    for _, p in ipairs((metric.sum or metric.histogram).dataPoints) do
      p.fields = plain(p.attributes)
    end
  end
  return by_name
end

return M
