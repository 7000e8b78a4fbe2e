-- SPDX-License-Identifier: MIT
--
-- The log of commands on stderr: a line for each handler that failed and for
-- each warning, as text or JSON. A process that would write more than a few
-- lines a second leaves lines out, and says how many.

local compat = require "respool.support.compat"
local json = require "respool.support.json"
local logger = require "respool.observe.logger"
local line_limit = require "respool.support.line_limit"
local output = require "respool.cli.base.output"
local visible = require "respool.support.visible"

local M = {}

---@class respool.cli.log_form
---@field json boolean? a JSON object a line
---@field verbose boolean? also tracebacks and messages of lower levels
---@field quiet boolean? nothing

local MOST, SPAN = 20, 1 -- lines in so many seconds

-- Adds --quiet, --verbose and --log.
function M.add_options(command)
  command:mutex(
    command:flag("-q --quiet", "Write no line for a failure, and no summary."),
    command:flag("-v --verbose", "Also write the tracebacks of failures, and "
      .. "what the store logs otherwise."))
  command:option("--log", "How lines for failures are written: text, or a "
    .. "JSON object a line.", "text"):choices { "text", "json" }
end

-- How the lines are written, by the arguments of a command.
---@return respool.cli.log_form
function M.form_of(args)
  return {
    json = args.log == "json", verbose = args.verbose, quiet = args.quiet,
  }
end


-- One event as text.

local FAILED = "a handler failed"

local function failure_text(f)
  local group = f.group and f.group ~= f.error and (" [%s]"):format(f.group)
    or ""
  return ("%s: item %d failed, attempt %d%s: %s"):format(
    f.queue, f.id, f.attempt, group, f.error)
end

-- Fields by name, such as "queue=q reason=expired".
local function fields_text(fields)
  local names, parts = {}, {}
  for name in pairs(fields) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    parts[i] = ("%s=%s"):format(name, compat.text(fields[name]))
  end
  return table.concat(parts, " ")
end

local function traceback(trace)
  local lines = {}
  for line in (trace or ""):gmatch "[^\n]+" do
    lines[#lines + 1] = "\n    " .. output.clean((line:gsub("\t", "  ")))
  end
  return table.concat(lines)
end

local function text_of(form, message, f)
  if message ~= FAILED then
    return ("respool: %s"):format(output.clean(
      ("%s (%s)"):format(message, fields_text(f))))
  end
  return "respool: " .. output.clean(failure_text(f))
    .. (form.verbose and traceback(f.trace) or "")
end


-- One event as JSON.

local function json_of(form, level, message, fields)
  local event = { time = os.time(), level = level, message = message }
  for name, value in pairs(fields) do
    if name ~= "trace" or form.verbose then event[name] = value end
  end
  return visible.json(json.encode(event))
end


-- Lines.

local function is_shown(form, level, message)
  return form.verbose or message == FAILED or level == "warn"
    or level == "error"
end

local function left_out(form, n)
  local text = ("%s not shown"):format(output.count(n, "more line"))
  return form.json and json_of(form, "warn", text, {}) or "respool: " .. text
end

-- A log hook that writes lines.
---@param io respool.cli.io
---@param form respool.cli.log_form
---@return false|fun(level: respool.level, message: string, fields: table)
function M.new(io, form)
  local limit = line_limit.new(MOST, SPAN)
  -- Over the status line that the parent may have written.
  local before = io.stderr:isatty() and "\r\27[K" or ""
  local function write(line)
    io.stderr:write(before .. line .. "\n")
    io.stderr:flush()
  end
  local function report(n)
    write(left_out(form, n))
  end
  return not form.quiet and function(level, message, fields)
    if message == logger.CLOSED then line_limit.restart(limit, report) end
    if not is_shown(form, level, message)
       or not line_limit.admits(limit, report) then
      return
    end
    write(form.json and json_of(form, level, message, fields)
      or text_of(form, message, fields))
  end
end

return M
