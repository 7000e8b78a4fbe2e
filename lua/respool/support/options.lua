-- SPDX-License-Identifier: MIT
--
-- Option tables, checked at once and copied. A form names the function and
-- its options, each with a kind: a function that turns the value given into
-- the one kept, or returns nil and what was expected.

local compat = require "respool.support.compat"
local core = require "respool.core"
local suggestion = require "respool.support.suggestion".suggestion

local huge, misuse = math.huge, compat.misuse

local M = {}

-- A value as messages show it: payloads never come here.
local function show(value)
  if type(value) == "string" then return ("%q"):format(value:sub(1, 40)) end
  if type(value) == "number" then return compat.text(value) end
  return type(value) == "boolean" and tostring(value) or type(value)
end

-- Raises that argument `n` of a function is not what was expected.
---@param n integer
---@param of string such as "queue:push"
---@param expected string
---@param value any
function M.bad_argument(n, of, expected, value)
  misuse(("bad argument #%d to '%s' (%s expected, got %s)"):format(
    n, of:match("[%w_]+$"), expected, show(value)))
end

-- The names that a form knows, those of the form that it extends among them.
local function names_of(form)
  local names, seen = {}, { of = true }
  while type(form) == "table" do
    for name in pairs(form) do
      if not seen[name] then names[#names + 1], seen[name] = name, true end
    end
    form = (getmetatable(form) or {}).__index
  end
  table.sort(names)
  return names
end

local function unknown(form, name)
  local known = type(name) == "string" and suggestion(name, names_of(form))
  misuse(("%s: unknown option '%s'%s"):format(form.of, tostring(name),
                                              known or ""))
end

local function read_option(form, name, value)
  local kind = name ~= "of" and form[name]
  if not kind then unknown(form, name) end
  local kept, expected = kind(value)
  if kept == nil then
    misuse(("%s: option '%s' must be %s, got %s"):format(
      form.of, name, expected, show(value)))
  end
  return kept
end

-- The options as the form keeps them, in a new table. `n` is the argument
-- they came as.
---@param form table kinds by name; `of` names the function
---@param given table?
---@param n integer
---@return table
function M.read(form, given, n)
  local kept = {}
  if given == nil then return kept end
  if type(given) ~= "table" then
    M.bad_argument(n, form.of, "table of options", given)
  end
  for name, value in pairs(given) do
    kept[name] = read_option(form, name, value)
  end
  return kept
end

-- Raises that an option is missing.
---@param form table
---@param kept table as read() returns them
function M.need(form, kept, ...)
  for _, name in ipairs { ... } do
    if kept[name] == nil then
      misuse(("%s: option '%s' is missing"):format(form.of, name))
    end
  end
end


-- Kinds.

-- A whole number from `least` to `most`; math.huge where it means no limit.
---@param least integer
---@param most number
---@return fun(value: any): any, string?
function M.whole(least, most)
  local expected = most == huge
    and ("a whole number from %d, or math.huge"):format(least)
    or ("a whole number from %d to %.0f"):format(least, most)
  return function(value)
    if type(value) ~= "number" or value < least or value > most
       or value % 1 ~= 0 and value ~= huge then
      return nil, expected
    end
    return value
  end
end

local LONGEST = 2^53 / 1000 -- in seconds: beyond, a millisecond is lost

-- A length of time: a number of seconds, or text such as "250ms", "90s", "5m",
-- "1h30m", "30d".
---@alias respool.seconds number|string

local SPANS = {
  ms = 0.001, s = 1, m = 60, min = 60, h = 3600, d = 86400, w = 604800,
}

-- The seconds of a text; nil when it is no length of time.
local function parse_span(text)
  local sum, rest = 0, text
  repeat
    local number, unit, more = rest:match "^(%d+%.?%d*)(%a+)(.*)$"
    if not SPANS[unit] then return nil end
    sum, rest = sum + core.number(number) * SPANS[unit], more
  until rest == ""
  return sum
end

local function span(value)
  if type(value) == "string" then value = parse_span(value) end
  if type(value) == "number" and value >= 0 and value <= LONGEST then
    return value
  end
end

local SPAN = [[seconds or a time such as "5m"]]

function M.seconds(value)
  local seconds = span(value)
  if seconds then return seconds end
  return nil, SPAN .. ", not negative"
end

function M.seconds_or_huge(value)
  if value == huge then return value end
  local seconds = span(value)
  if seconds then return seconds end
  return nil, SPAN .. ", not negative, or math.huge"
end

-- Above 0.
function M.positive_seconds(value)
  local seconds = span(value)
  if seconds and seconds > 0 then return seconds end
  return nil, SPAN .. ", above 0"
end

function M.positive_seconds_or_huge(value)
  if value == huge then return value end
  local seconds = span(value)
  if seconds and seconds >= 0.001 then return seconds end
  return nil, SPAN .. ", from 1 ms, or math.huge"
end

-- So many a second.
function M.rate(value)
  if type(value) == "number" and value > 0 and value < huge then
    return value
  end
  return nil, "a number a second, above 0"
end

-- A part of a whole.
function M.share(value)
  if type(value) == "number" and value > 0 and value <= 1 then return value end
  return nil, "a share above 0, up to 1"
end

-- The length of a lease.
function M.lease(value)
  local seconds = span(value)
  if seconds and seconds >= 0.001 and seconds <= 7 * 86400 then
    return seconds
  end
  return nil, SPAN .. ", from 1 ms to 7 days"
end

-- A moment.
function M.time(value)
  if type(value) == "number" and span(value) then return value end
  return nil, "a time in seconds since 1970"
end

function M.time_or_huge(value)
  if value == huge then return value end
  return M.time(value)
end

local UNITS = {
  [""] = 1, B = 1, KB = 1e3, MB = 1e6, GB = 1e9, TB = 1e12,
  KiB = 2^10, MiB = 2^20, GiB = 2^30, TiB = 2^40,
}

local function parse_size(text)
  local number, unit = text:match("^(%d+%.?%d*) ?(%a*)$")
  if not number or not UNITS[unit] then return nil end
  return math.floor(core.number(number) * UNITS[unit])
end

local function is_size(value)
  return type(value) == "number" and value >= 1 and value <= 2^53
    and value % 1 == 0
end

function M.size(value)
  if type(value) == "string" then value = parse_size(value) end
  if is_size(value) then return value end
  return nil, [[a number of bytes or a string such as "64KiB"]]
end

function M.size_or_huge(value)
  if value == huge then return value end
  return M.size(value)
end

function M.boolean(value)
  if type(value) == "boolean" then return value end
  return nil, "true or false"
end

function M.callable(value)
  if type(value) == "function" then return value end
  return nil, "a function"
end

function M.table(value)
  if type(value) == "table" then return value end
  return nil, "a table"
end

function M.string(value)
  if type(value) == "string" then return value end
  return nil, "a string"
end

-- The group of a failure, as text: a status may be given as a number.
function M.group(value)
  if type(value) == "string" then return value end
  if type(value) == "number" and value % 1 == 0 and value > -2^53
     and value < 2^53 then
    return ("%d"):format(value)
  end
  return nil, "a string or a whole number"
end

-- Why something waits, a text for people: it is kept without NUL.
function M.reason(value)
  if type(value) == "string" then return (value:gsub("%z", " ")) end
  return nil, "a string"
end

-- Names of queues, DLQs and replays.
function M.name(value)
  if type(value) == "string" and #value >= 1 and #value <= 255
     and not value:find("\0", 1, true) then
    return value
  end
  return nil, "a name of 1 to 255 bytes without NUL"
end

-- Keys of items.
function M.key(value)
  if type(value) == "string" and #value >= 1 and #value <= 255 then
    return value
  end
  return nil, "a string of 1 to 255 bytes"
end

-- One of the keys of `values`, kept as the value there.
---@param values table<string, any>
---@return fun(value: any): any, string?
function M.choice(values)
  local names = {}
  for name in pairs(values) do names[#names + 1] = ('"%s"'):format(name) end
  table.sort(names)
  local expected = table.concat(names, " or ")
  return function(value)
    if value ~= nil and values[value] ~= nil then return values[value] end
    return nil, expected
  end
end


-- Arguments that are no options.

-- Argument `n` of a function, as its kind keeps it.
---@param n integer
---@param of string
---@param value any
---@param kind fun(value: any): any, string?
function M.argument(n, of, value, kind)
  local kept, expected = kind(value)
  if kept == nil then M.bad_argument(n, of, expected, value) end
  return kept
end

M.id = M.whole(1, 2^53)

-- An object of ours, recognised by its class.
local function object(name, expected)
  return function(value)
    local class = type(value) == "table" and getmetatable(value)
    if type(class) == "table" and class.__name == name then return value end
    return nil, expected
  end
end

-- Lets the methods of a class raise what is wrong when they are called with a
-- dot instead of a colon. `of` names an object of the class in messages.
---@param class table
---@param of string
function M.guard_methods(class, of)
  for name, method in pairs(class) do
    if type(method) == "function" and not name:find "^__" then
      class[name] = function(self, ...)
        if getmetatable(self) ~= class then
          misuse(("%s.%s: call it with a colon, %s:%s(...)"):format(
            of, name, of, name))
        end
        return method(self, ...)
      end
    end
  end
end

-- The results of a verb: its one value; or nil, message and code.
function M.one(value, message, code)
  if value == nil then return nil, message, code end
  return value
end

M.queue = object("respool.queue", "a queue")
M.store = object("respool.store", "a store")
M.dead = object("respool.dead", "dead letters such as queue.dead")

return M
