-- SPDX-License-Identifier: MIT
--
-- Retry-After (RFC 9110, section 10.2.3): seconds, or a date in one of the
-- three forms of section 5.6.7.

local M = {}

local MONTHS = {
  Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8,
  Sep = 9, Oct = 10, Nov = 11, Dec = 12,
}

-- Days from 1970-01-01 to a date of the Gregorian calendar.
local function days(year, month, day)
  if month <= 2 then year = year - 1 end
  local of_year = math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1
  return 365 * year + math.floor(year / 4) - math.floor(year / 100)
    + math.floor(year / 400) + of_year - 719468
end

-- A year of two digits that seems more than 50 years ahead is past.
local function full_year(text, now)
  local year = tonumber(text)
  if #text > 2 then return year end
  local this = tonumber(os.date("!%Y", math.floor(now)))
  year = this - this % 100 + year
  return year > this + 50 and year - 100 or year
end

local FORMS = {
  { "^%a+, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$",
    "d", "m", "y", "H", "M", "S" },
  { "^%a+, (%d%d)%-(%a%a%a)%-(%d%d) (%d%d):(%d%d):(%d%d) GMT$",
    "d", "m", "y", "H", "M", "S" },
  { "^%a%a%a (%a%a%a) +(%d%d?) (%d%d):(%d%d):(%d%d) (%d%d%d%d)$",
    "m", "d", "H", "M", "S", "y" },
}

local function match(form, text)
  local found = { text:match(form[1]) }
  local date = {}
  for i, value in ipairs(found) do date[form[i + 1]] = value end
  return found[1] and MONTHS[date.m] and date or nil
end

-- A date of HTTP in seconds since 1970, or nil.
---@param text string
---@param now number
---@return number?
function M.date(text, now)
  for _, form in ipairs(FORMS) do
    local d = match(form, text)
    if d then
      return days(full_year(d.y, now), MONTHS[d.m], tonumber(d.d)) * 86400
        + d.H * 3600 + d.M * 60 + d.S
    end
  end
end

-- Seconds to wait at least, no more than `most`; nil when the header says
-- nothing that can be understood, or that no time is to pass: then whoever
-- asks has a policy of his own.
---@param text string?
---@param now number seconds since 1970
---@param most number
---@return number?
function M.seconds(text, now, most)
  if not text then return nil end
  local digits = text:match "^%s*(%d+)%s*$"
  local date = not digits and M.date(text, now)
  local seconds = digits and tonumber(digits) or date and date - now
  if not seconds or seconds <= 0 then return nil end
  return math.min(seconds, most)
end

return M
