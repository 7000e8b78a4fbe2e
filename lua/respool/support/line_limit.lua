-- SPDX-License-Identifier: MIT
--
-- Limits of logs: at most so many lines in a span of time. Lines that are left
-- out are counted, and the count is reported once the span is over.

local core = require "respool.core"

local M = {}

---@class respool.line_limit
---@field most integer lines in a span
---@field span number seconds
---@field began number when the span began
---@field written integer lines in it
---@field left_out integer lines of it that were not written

local function now()
  return core.mono() / 1e6
end

---@param most integer
---@param span number
---@return respool.line_limit
function M.new(most, span)
  return { most = most, span = span, began = now(), written = 0, left_out = 0 }
end

-- Begins a new span; report(n) is called if lines of the last were left out.
---@param limit respool.line_limit
---@param report fun(n: integer)
function M.restart(limit, report)
  if limit.left_out > 0 then report(limit.left_out) end
  limit.began, limit.written, limit.left_out = now(), 0, 0
end

-- Whether one more line may be written now.
---@param limit respool.line_limit
---@param report fun(n: integer) as of restart()
---@return boolean
function M.admits(limit, report)
  if now() - limit.began >= limit.span then M.restart(limit, report) end
  local admitted = limit.written < limit.most
  local counted = admitted and "written" or "left_out"
  limit[counted] = limit[counted] + 1
  return admitted
end

return M
