-- SPDX-License-Identifier: MIT
--
-- Progress of long work: one line on a terminal, written over a few times a
-- second, with the rate and, where the total is known, when it will be done.
-- Without a terminal nothing is shown.

local core = require "respool.core"
local output = require "respool.cli.base.output"

local M = {}

---@class respool.cli.progress
local Progress = {}
Progress.__index = Progress

local PAUSE = 0.2    -- seconds between two showings
local SETTLED = 2    -- seconds before the rate is trusted with an ETA

---@class respool.cli.progress_options
---@field noun string? of the things counted; "item"
---@field total number? of what `of` counts
---@field silent boolean?

-- Begins to count.
---@param io respool.cli.io
---@param o respool.cli.progress_options?
---@return respool.cli.progress
function M.new(io, o)
  o = o or {}
  return setmetatable({
    io = io, noun = o.noun or "item", total = o.total,
    shown = not o.silent and io.stderr:isatty(),
    began = core.mono() / 1e6, next_at = 0, n = 0,
  }, Progress)
end

-- Seconds since it began.
---@return number
function Progress:elapsed()
  return core.mono() / 1e6 - self.began
end

-- Things a second so far.
---@return number
function Progress:rate()
  return self.n / math.max(self:elapsed(), 0.001)
end

local function eta(progress, of)
  local elapsed = progress:elapsed()
  if not progress.total or of <= 0 or elapsed < SETTLED then return "" end
  local share = math.min(of / progress.total, 1)
  return (", %.0f%%, %s left"):format(
    share * 100, output.duration(elapsed * (1 - share) / share))
end

-- So many have been done. `of` is how far that is towards the total, where
-- that counts something else, such as bytes; `more` is shown behind.
---@param n number
---@param of number?
---@param more string?
function Progress:update(n, of, more)
  self.n = n
  if not self.shown or core.mono() / 1e6 < self.next_at then return end
  self.next_at = core.mono() / 1e6 + PAUSE
  self:show(("%s, %s/s%s%s"):format(
    output.count(n, self.noun), output.short(self:rate()),
    eta(self, of or n), more and ", " .. more or ""))
end

-- Writes over the line, on a terminal.
---@param text string
function Progress:show(text)
  if not self.shown then return end
  local columns = self.io.stderr:size()
  self.io.stderr:write("\r", output.cut(text, columns - 2), "\27[K")
  self.io.stderr:flush()
end

-- Makes room for a line of another kind.
function Progress:clear()
  if not self.shown then return end
  self.next_at = 0
  self.io.stderr:write("\r\27[K")
  self.io.stderr:flush()
end

return M
