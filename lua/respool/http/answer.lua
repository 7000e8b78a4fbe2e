-- SPDX-License-Identifier: MIT
--
-- Meaning of answers: whether one accepts an item; else the error for people,
-- and when to send the item again.

local text_of = require "respool.support.text"

local M = {}

local SHOWN = 200   -- bytes of an answer's text in an error
local SPREAD = 0.25 -- of a delay: items refused together come back apart
local GOLDEN = 0.6180339887498949

-- A set of statuses, such as "200-299,409", as a function that knows them.
---@param text any
---@return (fun(status: integer): boolean)?
function M.statuses(text)
  local ranges = {}
  if type(text) ~= "string" then return nil end
  for part in (text .. ","):gmatch "([^,]*)," do
    local from, to = part:match "^ *(%d%d%d)%-(%d%d%d) *$"
    from = from or part:match "^ *(%d%d%d) *$"
    if not from then return nil end
    ranges[#ranges + 1] = { tonumber(from), tonumber(to or from) }
  end
  return function(status)
    for _, range in ipairs(ranges) do
      if status >= range[1] and status <= range[2] then return true end
    end
    return false
  end
end

-- The beginning of a text in one line; "" of binary data.
local function one_line(text)
  text = text_of.cut(text, SHOWN)
  if text:find "[%z\1-\8\14-\31]" then return "" end
  if not text_of.is_utf8(text) then text = text:gsub("[\128-\255]", "?") end
  return (text:gsub("[%c%s]+", " "):gsub("^ ", ""):gsub(" $", ""))
end

local function said(answer)
  if answer.status >= 300 and answer.status < 400 and answer.location then
    return "redirects to " .. one_line(answer.location:gsub("[?#].*", ""))
      .. ", which is not followed"
  end
  return one_line(answer.text)
end

-- Whether the answer to the next attempt may be another one.
local function is_passing(status)
  return status == 408 or status == 425 or status == 429 or status >= 500
end

-- A delay, a little longer for one item than for another.
---@param seconds number
---@param item respool.item
---@return number
function M.spread(seconds, item)
  return seconds * (1 + SPREAD * (item.id * GOLDEN % 1))
end

-- Seconds to wait by Retry-After (RFC 9110, section 10.2.3), `most` at most;
-- nil when it says nothing, or that no time is to pass.
---@param text string?
---@param date fun(text: string): number?
---@param now number seconds since 1970
---@param most number
---@return number?
function M.retry_after(text, date, now, most)
  if not text then return nil end
  local seconds = tonumber(text:match "^%s*(%d+)%s*$")
  if not seconds and text:find "^%a" then
    local moment = date(text)
    seconds = moment and moment - now
  end
  if not seconds or seconds <= 0 then return nil end
  return math.min(seconds, most)
end

-- The error of an answer that does not accept the item. `hold`: for so many
-- seconds nothing is sent to the host; that is not counted as a failure.
---@param answer respool.http.answer
---@param wait number? what Retry-After says
---@return table
function M.refusal(answer, wait)
  local status, text = answer.status, said(answer)
  local passing = is_passing(status)
  local held = status == 429 or status == 503
  return {
    message = ("HTTP %d%s"):format(status, text ~= "" and ": " .. text or ""),
    group = ("%d"):format(status), retryable = passing,
    retry_after = passing and not held and wait or nil,
    hold = held and wait or nil,
  }
end

-- The errors of all URLs as one: it is final only if each of them is, and a
-- hold only if none of them failed.
---@param problems table[]
---@return table
function M.merge(problems)
  local all, messages, hold = { retryable = false }, {}, nil
  for _, problem in ipairs(problems) do
    messages[#messages + 1] = problem.message
    if problem.hold then
      hold = math.min(hold or problem.hold, problem.hold)
    elseif problem.retryable ~= false and not all.retryable then
      all.retryable, all.group = true, problem.group
    end
    all.group = all.group or problem.group
    if problem.retry_after then
      all.retry_after = math.max(all.retry_after or 0, problem.retry_after)
    end
  end
  all.message = table.concat(messages, "; ")
  if hold and not all.retryable then
    return { hold = hold, message = all.message }
  end
  return all
end

return M
