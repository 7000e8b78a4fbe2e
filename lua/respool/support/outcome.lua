-- SPDX-License-Identifier: MIT
--
-- Outcomes: what a handler may return to say how it went, and what an error
-- value says of itself.

local compat = require "respool.support.compat"
local options = require "respool.support.options"

local M = {}

-- The outcomes of the core.
M.NONE, M.DONE, M.RETRY, M.RELEASE, M.SNOOZE, M.DEAD, M.DROP, M.HOLD
  = 0, 1, 2, 3, 4, 5, 6, 7

-- Outcomes as values: their fields are those of a mark.
---@class respool.outcome
---@field kind integer
---@field delay number?
---@field error any
---@field group string?
---@field dlq string?
---@field held boolean? of a snooze: work that ends when its queue is empty
--- waits for the item
local Outcome = {}

---@param value any
---@return boolean
function M.is_outcome(value)
  return type(value) == "table" and getmetatable(value) == Outcome
end

local names = {} -- of the functions that make outcomes

-- Whether a handler that returned this has done its work: nothing, or
-- anything but an outcome, a function that makes one, false[, err] or nil, err.
---@return boolean
function M.is_done(first, second)
  if first == nil then return second == nil end
  return first ~= false and not M.is_outcome(first) and not names[first]
end

-- The error of a handler that returned this, is not done and gave no outcome:
-- its own, or a text that begins with `who`.
---@return any
function M.error_of(who, first, second)
  if names[first] then
    return ("%s returned the function %s: call it, %s()"):format(
      who, names[first], names[first])
  end
  return second == nil and who .. " returned false" or second
end

-- Why a function of the user's says no, given what it returned: nil and an
-- error, or false. Nil when it does not.
---@param name string of the function, for one that says no more than false
---@return string?
function M.refusal(name, first, second)
  if first ~= false and (first ~= nil or second == nil) then return nil end
  if second == nil then return name .. " returned false" end
  return M.describe(second).text
end

local function any(value)
  return value
end

-- A payload changed by a function of the user's; raises when that refuses.
---@param transform fun(payload: any, record: table): any, any
---@return any
function M.transformed(transform, payload, record)
  local new, err = transform(payload, record)
  if new == nil and err == nil then error("transform returned nothing", 0) end
  local why = M.refusal("transform", new, err)
  if why then error(why, 0) end
  return new
end

local RETRY = {
  of = "respool.retry", delay = options.seconds, error = any,
  group = options.group,
}
local DEAD = {
  of = "respool.dead", error = any, group = options.group, dlq = options.name,
}
local DROP = { of = "respool.drop", error = any }

local function make(kind, form, given)
  local outcome = options.read(form, given, 1)
  outcome.kind = kind
  return setmetatable(outcome, Outcome)
end

-- The item failed and is tried again, after `delay` seconds or as the queue's
-- policy says. An attempt is spent; at the limit it becomes a dead letter.
---@param given { delay: number?, error: any, group: string|integer? }?
---@return respool.outcome
function M.retry(given)
  return make(M.RETRY, RETRY, given)
end

-- The item failed for good: it becomes a dead letter.
---@param given { error: any, group: string|integer?, dlq: string? }?
---@return respool.outcome
function M.dead(given)
  return make(M.DEAD, DEAD, given)
end

-- The item failed for good and is removed, without a dead letter.
---@param given { error: any }?
---@return respool.outcome
function M.drop(given)
  return make(M.DROP, DROP, given)
end

-- The item is scheduled again after `seconds`; no attempt is spent.
---@param seconds number
---@return respool.outcome
function M.snooze(seconds)
  seconds = options.argument(1, "respool.snooze", seconds, options.seconds)
  return setmetatable({ kind = M.SNOOZE, delay = seconds }, Outcome)
end

-- The item is ready again, and its queue is held for `seconds`: no process
-- takes from it. No attempt is spent. `reason` is shown with the hold.
---@param seconds respool.seconds
---@param reason string?
---@return respool.outcome
function M.hold(seconds, reason)
  seconds = options.argument(1, "respool.hold", seconds, options.seconds)
  if reason ~= nil then
    reason = options.argument(2, "respool.hold", reason, options.reason)
  end
  return setmetatable({ kind = M.HOLD, delay = seconds, error = reason },
                      Outcome)
end

-- This item alone waits for `seconds`, where a held queue would make all wait:
-- nothing is spent, and work that ends when the queue is empty waits for it.
---@param seconds number
---@return respool.outcome
function M.hold_item(seconds)
  return setmetatable({ kind = M.SNOOZE, delay = seconds, held = true },
                      Outcome)
end

-- The item is ready again at once; no attempt is spent.
---@return respool.outcome
function M.release()
  return setmetatable({ kind = M.RELEASE }, Outcome)
end

for _, name in ipairs { "retry", "dead", "drop", "snooze", "release",
                       "hold" } do
  names[M[name]] = "respool." .. name
end


-- Errors.

local PLAIN = { string = true, number = true, boolean = true }

-- The plain fields of a table that is no text itself, such as "{code=500}";
-- nil when it has none.
local function fields_text(err)
  local parts = {}
  for name, value in pairs(err) do
    if PLAIN[type(value)] then
      parts[#parts + 1] = ("%s=%s"):format(tostring(name), compat.text(value))
    end
  end
  table.sort(parts)
  return parts[1] and "{" .. table.concat(parts, ", ") .. "}"
end

M.NO_TEXT = "an error without text" -- with which the text of one begins

-- Values whose text would be an address, which says nothing and differs from
-- one failure to the next.
local NAMELESS = { table = true, ["function"] = true, thread = true,
                   userdata = true }

local function plain_text(err)
  local kind, meta = type(err), getmetatable(err)
  if not NAMELESS[kind] or type(meta) == "table" and meta.__tostring then
    return compat.text(err)
  end
  return kind == "table" and fields_text(err)
    or M.NO_TEXT .. ", a " .. kind
end

local function text_of(err)
  local ok, text = pcall(plain_text, err)
  return ok and text or M.NO_TEXT
end

local function fields_of(err)
  return err.message, err.group, err.retryable, err.retry_after
end

---@class respool.failure
---@field text string
---@field group string?
---@field final boolean true: not to be tried again
---@field delay number? seconds, as the error itself asks for

-- The description of an error, which may be any value; a table may carry
-- message, group, retryable and retry_after.
---@param err any
---@return respool.failure
function M.describe(err)
  local failure = { text = text_of(err), final = false }
  if type(err) ~= "table" then return failure end
  local ok, message, group, retryable, after = pcall(fields_of, err)
  if not ok then return failure end
  return {
    text = text_of(message ~= nil and message or err),
    group = options.group(group),
    final = retryable == false,
    delay = options.seconds(after),
  }
end

return M
