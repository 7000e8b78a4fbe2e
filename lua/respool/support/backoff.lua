-- SPDX-License-Identifier: MIT
--
-- Retry policies. A policy says how long an item waits after its first,
-- second, third failure; the core does the arithmetic. It is a table with
-- the fields of respool_backoff, times in milliseconds, made and checked by
-- one of the constructors at the end, which take seconds.

local core = require "respool.core"
local spans = require "respool.support.options"

local floor, huge = math.floor, math.huge

local M = {}

---@class respool.backoff.policy
---@field name string the constructor that made it
---@field kind integer
---@field jitter integer
---@field ratio number
---@field initial integer?
---@field step integer?
---@field factor number?
---@field max integer?
---@field list integer[]?
local Policy = { __name = "respool.backoff" }
Policy.__index = Policy


-- Readers: an option's value to a field's, or nil and what is wrong.

local function number(value)
  if type(value) ~= "number" then
    return nil, "must be a number, got " .. type(value)
  elseif value ~= value or value == huge or value == -huge then
    return nil, "is not finite"
  elseif value < 0 then
    return nil, "is negative"
  end
  return value
end

local function time(value)
  if type(value) == "string" then
    value = spans.seconds(value)
    if not value then return nil, 'must be seconds or a time such as "5m"' end
  end
  local seconds, message = number(value)
  if not seconds then return nil, message end
  local ms = floor(seconds * 1000 + 0.5)
  if ms > 2^53 then return nil, "is too long" end -- no longer exact
  return ms
end

local JITTERS = { none = 0, full = 1, equal = 2 }
local JITTER_RATIO = 3

local function jitter(value)
  if JITTERS[value] then return JITTERS[value] end
  if type(value) == "number" and value >= 0 and value <= 1 then
    return JITTER_RATIO
  end
  return nil, [[must be "none", "full", "equal" or a number in 0..1]]
end


-- The options there are, and which of them each kind of policy knows.

local OPTIONS = {
  delay = { field = "initial", read = time },
  initial = { field = "initial", read = time, default = 1 },
  step = { field = "step", read = time, default = 1 },
  factor = { field = "factor", read = number, default = 2 },
  power = { field = "factor", read = number, default = 2 },
  max = { field = "max", read = time, default = 3600 },
  jitter = { field = "jitter", read = jitter, default = "none" },
}

local CONSTANT = { kind = 0, "delay", "jitter" }
local LINEAR = { kind = 1, "initial", "step", "max", "jitter" }
local EXPONENTIAL = { kind = 2, "initial", "factor", "max", "jitter" }
local POLYNOMIAL = { kind = 3, "initial", "power", "max", "jitter" }
local FIBONACCI = { kind = 4, "initial", "max", "jitter" }
local LIST = { kind = 5, listed = true, "jitter" }
local DECORRELATED = { kind = 6, "initial", "max" }

local function set_option(policy, name, value)
  local option = OPTIONS[name]
  if value == nil then value = option.default end
  local field, message = option.read(value)
  if not field then return ("'%s' %s"):format(name, message) end
  policy[option.field] = field
end

local function set_list(policy, options)
  policy.list = {}
  for i, value in ipairs(options) do
    local ms, message = time(value)
    if not ms then return ("delay %d %s"):format(i, message) end
    policy.list[i] = ms
  end
end

local function find_unknown(policy, form, options)
  local known = {}
  for _, name in ipairs(form) do known[name] = true end
  for i in ipairs(policy.list or {}) do known[i] = true end
  for name in pairs(options) do
    if not known[name] then
      return ("unknown option '%s'"):format(tostring(name))
    end
  end
end

-- Fills the policy; returns what is wrong with the options.
local function read(policy, form, options)
  if type(options) ~= "table" then
    return "expected a table of options, got " .. type(options)
  end
  local wrong = form.listed and set_list(policy, options)
    or find_unknown(policy, form, options)
  for _, name in ipairs(form) do
    wrong = wrong or set_option(policy, name, options[name])
  end
  return wrong
end

-- A default cap gives way to a longer first delay.
local function complete(policy, options)
  if policy.jitter == JITTER_RATIO then policy.ratio = options.jitter end
  if policy.max and not options.max then
    policy.max = math.max(policy.max, policy.initial)
  end
end

local function check(policy)
  local ok, message = core.backoff_check(policy)
  return not ok and message:gsub("^backoff: ", "")
end

local function constructor(name, form)
  return function(options)
    if options == nil then options = {} end
    local policy = setmetatable({ name = name, kind = form.kind }, Policy)
    local wrong = read(policy, form, options)
    if not wrong then
      complete(policy, options)
      wrong = check(policy)
    end
    if wrong then error(("backoff.%s: %s"):format(name, wrong), 2) end
    return policy
  end
end


local function check_argument(ok, name, wanted)
  if not ok then
    error(("policy:delay: '%s' must be %s"):format(name, wanted), 3)
  end
end

local function is_number(value)
  return type(value) == "number"
end

-- The delay in seconds before the try that follows failure number
-- `attempt`. `previous` is the delay before this one, which only a
-- decorrelated policy looks at; `chance` in [0, 1) is drawn when not given.
---@param attempt integer from 1
---@param previous number?
---@param chance number?
---@return number seconds
function Policy:delay(attempt, previous, chance)
  previous = previous or 0
  chance = chance or math.random()
  check_argument(is_number(attempt) and attempt >= 1 and attempt % 1 == 0,
                 "attempt", "a whole number from 1")
  check_argument(is_number(previous) and previous >= 0,
                 "previous", "a number of seconds")
  check_argument(is_number(chance) and chance >= 0 and chance < 1,
                 "chance", "a number in [0, 1)")
  return core.backoff_delay(self, attempt, previous * 1000, chance) / 1000
end

function Policy:__tostring()
  return "respool.backoff." .. self.name
end


-- Constructors. `jitter` is "none" when left out, "full" (anything up to the
-- delay), "equal" (its upper half), or a share such as 0.1 (so much more or
-- less). No delay exceeds `max`, whatever the jitter.

---@alias respool.backoff.jitter "none"|"full"|"equal"|number

-- Always the same delay.
---@param options { delay: number, jitter: respool.backoff.jitter? }
---@return respool.backoff.policy
M.constant = constructor("constant", CONSTANT)

---@class respool.backoff_options
---@field initial number? seconds
---@field max number? seconds
---@field jitter respool.backoff.jitter? "full"
---@field step number? seconds, of linear
---@field factor number? of exponential
---@field power number? of polynomial

-- initial, initial + step, initial + 2 * step ...
---@param options respool.backoff_options
---@return respool.backoff.policy
M.linear = constructor("linear", LINEAR)

-- initial, initial * factor, initial * factor ^ 2 ...
---@param options respool.backoff_options
---@return respool.backoff.policy
M.exponential = constructor("exponential", EXPONENTIAL)

-- initial * attempt ^ power.
---@param options respool.backoff_options
---@return respool.backoff.policy
M.polynomial = constructor("polynomial", POLYNOMIAL)

-- initial times 1, 1, 2, 3, 5, 8 ...
---@param options respool.backoff_options
---@return respool.backoff.policy
M.fibonacci = constructor("fibonacci", FIBONACCI)

-- The delays of a list; the last one repeats.
---@param options { [integer]: number, jitter: respool.backoff.jitter? }
---@return respool.backoff.policy
M.list = constructor("list", LIST)

-- A random delay from initial to three times the one before.
---@param options { initial: number?, max: number? }
---@return respool.backoff.policy
M.decorrelated = constructor("decorrelated", DECORRELATED)

-- For webhooks, as Standard Webhooks advises: ten tries in about three days,
-- with `max_attempts = 10`.
---@return respool.backoff.policy
function M.webhooks()
  return M.list {
    5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400, jitter = 0.1,
  }
end


-- Policies in words, as queue:config() tells them: { name = "exponential",
-- initial = 1, ... }, in seconds; of a list { name = "list", list = { ... } }.

local FORMS = {
  constant = CONSTANT, linear = LINEAR, exponential = EXPONENTIAL,
  polynomial = POLYNOMIAL, fibonacci = FIBONACCI, list = LIST,
  decorrelated = DECORRELATED,
}

local JITTER_NAMES = { [0] = "none", "full", "equal" }

local function told(policy, name)
  if name == "jitter" then
    return JITTER_NAMES[policy.jitter] or policy.ratio
  end
  local option = OPTIONS[name]
  local value = policy[option.field]
  return option.read == time and value / 1000 or value
end

-- A policy as the core gives it.
---@param policy table
---@return table
function M.describe(policy)
  for name, form in pairs(FORMS) do
    if form.kind == policy.kind then
      local words = { name = name }
      for _, option in ipairs(form) do words[option] = told(policy, option) end
      if form.listed then
        words.list = {}
        for i, ms in ipairs(policy.list) do words.list[i] = ms / 1000 end
      end
      return words
    end
  end
end

-- The policy of such words; nil when they are none.
---@param words table
---@return respool.backoff.policy?
function M.described(words)
  if not FORMS[words.name] then return nil end
  local options = {}
  for name, value in pairs(words) do
    if name == "list" and words.name == "list" and type(value) == "table" then
      for i, seconds in pairs(value) do options[i] = seconds end
    elseif name ~= "name" then
      options[name] = value
    end
  end
  local ok, policy = pcall(M[words.name], options)
  return ok and policy or nil
end

-- Whether `value` is a policy made here.
---@param value any
---@return boolean
function M.is_policy(value)
  return type(value) == "table" and getmetatable(value) == Policy
end

return M
