-- SPDX-License-Identifier: MIT
--
-- Arguments that commands share: durations, sizes, times and whole numbers as
-- people write them, the store and the queue, and the way to end with an error.

local core = require "respool.core"
local failure_log = require "respool.cli.base.failure_log"
local json = require "respool.support.json"
local location = require "respool.support.location"
local options = require "respool.support.options"
local policy = require "respool.policy"
local store_of = require "respool.store"
local suggestion = require "respool.support.suggestion"

local M = {}


-- Errors. They end the command with one line and a status.

---@class respool.cli.failure
---@field message string
---@field status integer
local Failure = {}
function Failure:__tostring()
  return self.message
end

---@param err any
---@return boolean
function M.is_failure(err)
  return getmetatable(err) == Failure
end

-- Ends the command with a failure.
---@param message string one line
---@param status integer? 1
function M.fail(message, status)
  error(setmetatable({ message = message, status = status or 1 }, Failure), 0)
end

-- Ends the command because its arguments are wrong.
---@param message string one line
function M.misuse(message)
  M.fail(message, 2)
end

-- The text of an error that the library raised, in one line, without the place
-- in our own code and the name of the function. Where a module was not found,
-- without the list of places where it was looked for.
---@param err any
---@return string
function M.text_of(err)
  return (tostring(err):gsub("(module '[^'\n]+' not found):.*", "%1")
    :gsub("%s*\n%s*", " ")
    :gsub("^(dead letter %d+: ).-bin/respool:%d+: ", "%1")
    :gsub("^.-bin/respool:%d+: ", "")
    :gsub("^.-%.lua:%d+: respool: ", "") -- raised by a walk
    :gsub("^%a+:%a[%w_]*: ", ""))
end

-- The same; where the error is about an option, the worker script is named.
---@param err any
---@param path string? of the script
---@return string
function M.text_with(err, path)
  local text = M.text_of(err)
  if not path or not text:find "^[%a ]*option '" then return text end
  return ("%s: %s"):format(path, text)
end

-- Passes on what the library returned, or ends the command with its error.
---@return any ...
function M.check(ok, ...)
  if not ok then M.fail(tostring((...))) end
  return ok, ...
end


-- Numbers, as converters for argparse: the value, or nil and why not.

-- A whole number within bounds.
---@param least integer
---@param most integer? 2^53
---@return fun(text: string): integer?, string?
function M.whole(least, most)
  most = most or 2^53
  return function(text)
    local n = text:match "^%d+$" and tonumber(text)
    if n and n >= least and n <= most then return n end
    return nil, most < 2^53
      and ("'%s' is not a whole number from %d to %d"):format(
        text, least, most)
      or ("'%s' is not a whole number from %d on"):format(text, least)
  end
end

-- A number above 0, such as a rate.
---@return number?, string?
function M.positive(text)
  local n = text:match "^[%d.]+$" and core.number(text)
  if n and n > 0 then return n end
  return nil, ("'%s' is not a number above 0"):format(text)
end

-- A share above 0, up to 1.
---@return number?, string?
function M.share(text)
  local n = M.positive(text)
  if n and n <= 1 then return n end
  return nil, ("'%s' is not a share above 0, up to 1"):format(text)
end

-- A duration in seconds: 90, 90s, 5m, 2h, 3d, 1h30m, 250ms.
---@return number?, string?
function M.duration(text)
  local number = text:match "^%d+%.?%d*$" and core.number(text)
  local seconds = options.seconds(number or text)
  if seconds then return seconds end
  return nil, ("'%s' is not a duration such as 90s, 5m, 2h or 3d"):format(text)
end

-- A duration above 0.
---@return number?, string?
function M.positive_duration(text)
  local seconds, why = M.duration(text)
  if seconds ~= 0 then return seconds, why end
  return nil, ("'%s' is not a duration above 0, such as 90s or 5m"):format(text)
end

local BINARY = { K = "KiB", M = "MiB", G = "GiB", T = "TiB" }

-- A size in bytes: 4096, 64KiB, 1MB; a bare K, M, G or T is a power of 1024.
---@return integer?, string?
function M.size(text)
  local number, unit = text:match "^(%d+%.?%d*)([KMGTkmgt])$"
  local said = number and number .. BINARY[unit:upper()] or text
  local bytes = options.size(core.number(said) or said)
  if bytes then return bytes end
  return nil, ("'%s' is not a size such as 4096, 64KiB or 1MB"):format(text)
end


-- Moments.

-- How far local time is ahead of UTC at a moment, in seconds.
local function zone_at(t)
  local utc = os.date("!*t", t)
  utc.isdst = os.date("*t", t).isdst
  return os.difftime(t, os.time(utc))
end

-- Days from 1970-01-01; H. Hinnant, "chrono-Compatible Low-Level Date
-- Algorithms", days_from_civil.
local function days(y, m, d)
  if m <= 2 then y = y - 1 end
  local era = math.floor(y / 400)
  local of_era = y - era * 400
  local of_year = math.floor((153 * ((m + 9) % 12) + 2) / 5) + d - 1
  return era * 146097 + of_era * 365 + math.floor(of_era / 4)
    - math.floor(of_era / 100) + of_year - 719468
end

local function zone_of(text)
  if text == "Z" or text == "z" then return 0 end
  local sign, hours, minutes = text:match "^([+-])(%d%d):?(%d%d)$"
  if not sign then return nil end
  return (sign == "-" and -1 or 1) * (hours * 3600 + minutes * 60)
end

local MONTHS = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function is_date(y, m, d)
  local leap = y % 4 == 0 and (y % 100 ~= 0 or y % 400 == 0)
  return y >= 1970 and m >= 1 and m <= 12 and d >= 1 and d <= MONTHS[m]
    and not (m == 2 and d == 29 and not leap)
end

-- Seconds of the day and zone of the text after a date; nil when wrong.
local function clock_of(text)
  if text == "" then return 0, "" end
  local h, min, rest = text:match "^[T ](%d%d):(%d%d)(.*)$"
  if not h then return nil end
  local s, zone = rest:match "^:(%d%d%.?%d*)(.*)$"
  if not s then s, zone = "0", rest end
  h, min, s = tonumber(h), tonumber(min), core.number(s)
  if h > 23 or min > 59 or s >= 61 then return nil end
  return h * 3600 + min * 60 + s, zone
end

-- A date or a date and time of ISO 8601; local time where no zone is given.
local function iso(text)
  local y, m, d, rest = text:match "^(%d%d%d%d)-(%d%d)-(%d%d)(.*)$"
  if not y then return nil end
  y, m, d = tonumber(y), tonumber(m), tonumber(d)
  local of_day, zone = clock_of(rest)
  if not is_date(y, m, d) or not of_day then return nil end
  local t = days(y, m, d) * 86400 + of_day
  if zone == "" then return t - zone_at(math.floor(t)) end
  return zone_of(zone) and t - zone_of(zone)
end

-- A moment in seconds since 1970: ISO 8601, "2h ago" (or 2h), "now", @SECONDS.
---@return number?, string?
function M.moment(text)
  local ago = text:match "^(%S+) ago$" or text
  local seconds = text ~= "" and options.seconds(core.number(ago) or ago)
  local t = text == "now" and os.time() or seconds and os.time() - seconds
    or core.number(text:match "^@(%d+%.?%d*)$" or "") or iso(text)
  if t then return t end
  return nil, ("'%s' is not a time such as 2026-01-31T12:00:00Z or '2h ago'")
    :format(text)
end


-- Names.

-- A name of a queue, a DLQ or a named replay.
---@return string?, string?
function M.name(text)
  local name, expected = options.name(text)
  if name then return name end
  return nil, ("'%.40s' is not %s"):format(text, expected)
end

-- The key of an item.
---@return string?, string?
function M.key(text)
  local key, expected = options.key(text)
  if key then return key end
  return nil, ("a key is %s"):format(expected)
end

-- A name of a queue that a command changes. Names that begin with a dot are
-- reserved for the command line.
---@return string?, string?
function M.own_name(text)
  local name, why = M.name(text)
  if not name or name:sub(1, 1) ~= "." then return name, why end
  return nil, ("'%.40s' begins with a dot: such queues are respool's own")
    :format(text)
end


-- Settings.

local WORDS = { none = math.huge, ["true"] = true, ["false"] = false }

-- The value of a setting of a queue: a number, a duration, a size, a word, or
-- JSON.
---@param text string
---@return any
function M.setting(text)
  if WORDS[text] ~= nil then return WORDS[text] end
  if text:find "^[{[]" then
    return policy.from_json(json.decode(text)) or text
  end
  return text:find "^%d+%.?%d*$" and core.number(text) or text
end


-- Arguments of commands.

-- Adds the argument STORE.
function M.add_store(command)
  command:argument("store", "Directory of the store, or URL of a database.")
    :argname "STORE"
end

-- Adds the argument QUEUE; `changed` says that the command changes it.
---@param command table
---@param changed boolean?
function M.add_queue(command, changed)
  command:argument("queue", "Name of the queue."):argname "QUEUE"
    :convert(changed and M.own_name or M.name)
end


-- Commands that destroy.

function M.add_yes(command)
  command:flag("--yes", "Do it, not only report what would be done.")
end

-- Ends the command with its plan, unless it was told to go ahead.
---@param args table
---@param plan string
function M.need_yes(args, plan)
  if args.yes then return end
  M.fail(("nothing was done: this would %s; --yes does it"):format(plan))
end


-- Stores, queues and DLQs.

-- Refuses what is the name of no store that others may have, too.
---@param path string
function M.check_store(path)
  if path == "" then M.misuse("the name of a store cannot be empty") end
  if path == ":memory:" then
    M.misuse("a store in memory cannot be shared: name a directory")
  end
end

-- Opens a store, which must be there unless `create`. It is closed when the
-- command ends.
---@param io respool.cli.io
---@param path string
---@param given respool.open_options?
---@return respool.store
function M.open(io, path, given)
  local o = { create = false, log = failure_log.new(io, {}) }
  for name, value in pairs(given or {}) do o[name] = value end
  M.check_store(path)
  local store, message, code = store_of.open(path, o)
  if not store and code == "NOT_FOUND" and not location.is_database(path) then
    M.fail(("there is no store in '%s'"):format(location.shown(path)))
  end
  io.stores[#io.stores + 1] = M.check(store, message, code)
  return store
end

M.suggestion = suggestion.suggestion

-- Whether a list of names has this one.
---@param names string[]
---@param name string
---@return boolean
function M.has(names, name)
  for _, other in ipairs(names) do
    if other == name then return true end
  end
  return false
end

local function missing(store, kind, name, names)
  M.fail(("there is no %s '%s' in '%s'%s"):format(
    kind, name, location.shown(store.path), M.suggestion(name, names)))
end

-- Opens a queue that must exist: looking at a queue must not create it.
---@param store respool.store
---@param name string
---@param given table? options of store:queue
---@return respool.queue
function M.queue(store, name, given)
  local names = M.check(store:queues())
  if not M.has(names, name) then missing(store, "queue", name, names) end
  local o = { create = false }
  for option, value in pairs(given or {}) do o[option] = value end
  return (M.check(store:queue(name, o)))
end

-- A payload that is given on the command line, as JSON unless `raw`.
---@param text string
---@param raw boolean?
---@return any
function M.payload(text, raw)
  if raw then return text end
  local value, why = json.decode(text)
  if value == nil then
    M.misuse("JSON: the payload cannot be read as JSON: " .. why)
  end
  return value
end

-- Opens a DLQ that must exist, by its name or that of its queue. A queue has a
-- DLQ even before it has dead letters.
---@param store respool.store
---@param name string
---@param given { codec: any }?
---@return respool.dead
function M.dlq(store, name, given)
  local names = M.check(store:dead_letter_queues())
  local queues = M.check(store:queues())
  if M.has(names, name) then return store:dead(name, given) end
  if M.has(queues, name) then return M.queue(store, name, given).dead end
  for _, queue in ipairs(queues) do names[#names + 1] = queue end
  missing(store, "DLQ", name, names)
end

return M
