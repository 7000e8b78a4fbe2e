-- SPDX-License-Identifier: MIT
--
-- Traces and metrics of the commands that work, to a collector: --otlp, or the
-- environment variables that OpenTelemetry's own libraries read.

local arguments = require "respool.cli.base.arguments"
local output = require "respool.cli.base.output"
local url_of = require "respool.http.url"

local M = {}

local function url(text)
  local parsed, expected = url_of.parse(text)
  if parsed then return text end
  text = text:gsub("//[^/]*@", "//...@") -- a password
  return nil, ("'%s' is not %s"):format(output.clean(text), expected)
end

-- Adds --otlp.
function M.add_options(command)
  command:option("--otlp", "Send traces and metrics to the OpenTelemetry "
    .. "collector at this URL, such as http://localhost:4318, as JSON. By "
    .. "default the environment says: OTEL_EXPORTER_OTLP_ENDPOINT.")
    :argname "URL":convert(url)
end

-- The value of an environment variable; nil when it is unset or empty.
local function env(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

-- The environment, as opentelemetry.io/docs/specs/otel has it: a value that is
-- not understood is reported, and counts as unset.
local Environment = {}
Environment.__index = Environment

function Environment:ignore(name, why)
  self.log("warn", ("%s is ignored: %s"):format(name, why), {})
end

local function decoded(text)
  return (text:gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

-- "a=1,b=x%20y" as a table.
function Environment:list(name)
  local list = {}
  for entry in (env(name) or ""):gmatch "[^,]+" do
    local key, value = entry:match "^%s*([^=%s]+)%s*=%s*(.-)%s*$"
    if not key then
      return self:ignore(name, "it is not a list such as key=value,key=value")
    end
    list[key] = decoded(value)
  end
  return next(list) and list
end

-- A whole number, times `unit`.
function Environment:number(name, unit)
  local text = env(name)
  if not text then return nil end
  local n = tonumber(text:match "^%d+$")
  if n and n > 0 then return n * (unit or 1) end
  self:ignore(name, "it is not a positive whole number")
end

function Environment:url(name)
  local text = env(name)
  if not text then return nil end
  local found, why = url(text)
  return found or self:ignore(name, why)
end

local SAMPLERS = {
  always_on = 1, parentbased_always_on = 1,
  always_off = 0, parentbased_always_off = 0,
}
local RATIOS = { traceidratio = true, parentbased_traceidratio = true }

-- The part of new traces that is sent.
function Environment:sample()
  local name = env "OTEL_TRACES_SAMPLER"
  if not name or SAMPLERS[name] then return SAMPLERS[name] end
  if not RATIOS[name] then
    return self:ignore("OTEL_TRACES_SAMPLER", "no known sampler")
  end
  local text = env "OTEL_TRACES_SAMPLER_ARG" or "1"
  local share = tonumber(text)
  if share and share >= 0 and share <= 1 then return share end
  self:ignore("OTEL_TRACES_SAMPLER_ARG", "it is not a number from 0 to 1")
end

-- Whether a list of exporters has OTLP in it: nil where it is unset.
function Environment:exports(name)
  local value, found = env(name), false
  if not value then return nil end
  for one in value:gmatch "[^,%s]+" do
    if one == "otlp" then
      found = true
    elseif one ~= "none" then
      self:ignore(name, "there is no exporter but otlp and none")
    end
  end
  return found
end

local LOCAL = "http://localhost:4318" -- where the standard looks

-- Whether the environment turns everything off, or asks for another protocol
-- than OTLP over HTTP, which is spoken at other ports.
local function is_off()
  return (env "OTEL_SDK_DISABLED" or ""):lower() == "true"
    or env "OTEL_EXPORTER_OTLP_PROTOCOL" == "grpc"
end

-- Where one kind of records goes; nil: to the URL of all; false: nowhere.
function Environment:signal(name)
  if self:exports("OTEL_" .. name .. "_EXPORTER") == false then return false end
  return self:url("OTEL_EXPORTER_OTLP_" .. name .. "_ENDPOINT")
end

-- Where records go, by all that the environment says; nil: nowhere.
function Environment:places()
  if is_off() then return nil end
  local at = {
    url = self:url "OTEL_EXPORTER_OTLP_ENDPOINT",
    traces = self:signal "TRACES", metrics = self:signal "METRICS",
  }
  if not at.url and self:exports "OTEL_TRACES_EXPORTER" then at.url = LOCAL end
  if not at.url then
    at.traces, at.metrics = at.traces or false, at.metrics or false
  end
  return (at.traces ~= false or at.metrics ~= false) and at or nil
end

local function options_of(args, log)
  local from = setmetatable({ log = log }, Environment)
  local at = args.otlp and { url = args.otlp } or from:places()
  return at and {
    url = at.url, traces = at.traces, metrics = at.metrics,
    headers = from:list "OTEL_EXPORTER_OTLP_HEADERS",
    service = env "OTEL_SERVICE_NAME",
    resource = from:list "OTEL_RESOURCE_ATTRIBUTES", sample = from:sample(),
    timeout = from:number("OTEL_EXPORTER_OTLP_TIMEOUT", 1e-3),
    interval = from:number("OTEL_BSP_SCHEDULE_DELAY", 1e-3),
    batch = from:number "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    buffer = from:number "OTEL_BSP_MAX_QUEUE_SIZE",
    report = from:number("OTEL_METRIC_EXPORT_INTERVAL", 1e-3),
    ca_file = env "OTEL_EXPORTER_OTLP_CERTIFICATE",
  }
end

-- A function that makes the tracer of a process; nil when there is none.
---@param args table
---@param log respool.log|false
---@return (fun(): respool.otlp_tracer)?
function M.maker(args, log)
  log = log or function() end
  local o = options_of(args, log)
  if not o then return nil end
  o.log = log
  local function make()
    return require "respool.otlp.tracer".new(o)
  end
  local ok, why = pcall(make) -- here, to say what is wrong with it
  if not ok then arguments.misuse(arguments.text_of(why)) end
  return make
end

return M
