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

local function decoded(text)
  return (text:gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

-- "a=1,b=x%20y" as a table.
local function list_of(name)
  local list
  for entry in (env(name) or ""):gmatch "[^,]+" do
    local key, value = entry:match "^%s*([^=%s]+)%s*=%s*(.-)%s*$"
    if not key then
      arguments.misuse(name .. " is not a list such as key=value,key=value")
    end
    list = list or {}
    list[key] = decoded(value)
  end
  return list
end

-- A whole number of the environment, times `unit`.
local function number_of(name, unit)
  local text = env(name)
  if not text then return nil end
  local n = tonumber(text:match "^%d+$")
  if not n or n == 0 then
    arguments.misuse(name .. " is not a positive whole number")
  end
  return n * (unit or 1)
end

local SAMPLERS = {
  always_on = 1, parentbased_always_on = 1,
  always_off = 0, parentbased_always_off = 0,
}

-- The part of new traces that is sent.
local function sample()
  local name = env "OTEL_TRACES_SAMPLER"
  if not name then return nil end
  if SAMPLERS[name] then return SAMPLERS[name] end
  local part = tonumber(env "OTEL_TRACES_SAMPLER_ARG" or "1")
  if (name == "traceidratio" or name == "parentbased_traceidratio")
     and part and part >= 0 and part <= 1 then
    return part
  end
  arguments.misuse "OTEL_TRACES_SAMPLER and its _ARG name no known sampler"
end

-- The URL that the environment names, unless it turns tracing off or asks for
-- what is spoken at other ports than HTTP.
local function url_of_environment()
  local found = env "OTEL_EXPORTER_OTLP_ENDPOINT"
  if not found or env "OTEL_SDK_DISABLED" == "true"
     or env "OTEL_EXPORTER_OTLP_PROTOCOL" == "grpc" then
    return nil
  end
  local ok, why = url(found)
  return ok or arguments.misuse("OTEL_EXPORTER_OTLP_ENDPOINT: " .. why)
end

local function options_of(args)
  local at = args.otlp or url_of_environment()
  return at and {
    url = at, headers = list_of "OTEL_EXPORTER_OTLP_HEADERS",
    service = env "OTEL_SERVICE_NAME",
    resource = list_of "OTEL_RESOURCE_ATTRIBUTES", sample = sample(),
    timeout = number_of("OTEL_EXPORTER_OTLP_TIMEOUT", 1e-3),
    interval = number_of("OTEL_BSP_SCHEDULE_DELAY", 1e-3),
    batch = number_of "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    buffer = number_of "OTEL_BSP_MAX_QUEUE_SIZE",
    report = number_of("OTEL_METRIC_EXPORT_INTERVAL", 1e-3),
    ca_file = env "OTEL_EXPORTER_OTLP_CERTIFICATE",
  }
end

-- A function that makes the tracer of a process; nil when there is none.
---@param args table
---@param log respool.log|false
---@return (fun(): respool.otlp_tracer)?
function M.maker(args, log)
  local o = options_of(args)
  if not o then return nil end
  o.log = log or function() end
  local function make()
    return require "respool.otlp.tracer".new(o)
  end
  local ok, why = pcall(make) -- here, to say what is wrong with it
  if not ok then arguments.misuse(arguments.text_of(why)) end
  return make
end

return M
