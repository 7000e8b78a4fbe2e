-- SPDX-License-Identifier: MIT
--
-- The input and output of a command. They have the interface of Lua's io, but
-- writes raise errors: the reader of our output may end at any time, and a disk
-- may be full. The stores that a command opened belong here too, so that they
-- are closed however it ends.

local core = require "respool.core"

local M = {}

---@class respool.cli.io
---@field stdin file*
---@field stdout respool.cli.writer
---@field stderr respool.cli.writer
---@field stores respool.store[]

local CLOSED = {} -- raised when nobody reads what we write

-- Whether an error says that the reader of our output has gone.
---@param err any
---@return boolean
function M.is_closed(err)
  return err == CLOSED
end

local EPIPE = 32 -- the same on every Linux

---@class respool.cli.writer
---@field file file*
---@field fd integer
---@field piped boolean? to a program
local Writer = {}
Writer.__index = Writer

local function check(ok, message, number)
  if ok then return end
  if number == EPIPE then error(CLOSED, 0) end
  error(("cannot write: %s"):format(message or "unknown error"), 0)
end

---@param ... string|number
function Writer:write(...)
  check(self.file:write(...))
  return self
end

function Writer:flush()
  check(self.file:flush())
end

-- Sends all that is written from now on to a program, which shows it on the
-- same terminal.
---@param command string of the shell
function Writer:pipe(command)
  self:flush()
  local file, message = io.popen(command, "w")
  if not file then
    error(("cannot start '%s': %s"):format(command, message), 0)
  end
  self.file, self.piped = file, true
end

-- Flushes; a program that shows the output is waited for.
function Writer:finish()
  self:flush()
  if self.piped then self.file:close() end
end

-- Whether a person may be looking.
---@return boolean
function Writer:isatty()
  return core.terminal.isatty(self.fd)
end

-- Columns and rows of the terminal; 80 and 24 where there is none.
---@return integer, integer
function Writer:size()
  local columns, rows = core.terminal.size(self.fd)
  return columns or 80, rows or 24
end

local function writer(file, fd)
  return setmetatable({ file = file, fd = fd }, Writer)
end

---@return respool.cli.io
function M.new()
  return setmetatable({
    stdin = io.stdin, stdout = writer(io.stdout, 1),
    stderr = writer(io.stderr, 2), stores = {},
  }, { __index = io })
end

-- Closes the stores that a command opened and flushes its output; returns 0.
---@param streams respool.cli.io
---@return integer
function M.close(streams)
  local problem
  for _, store in ipairs(streams.stores) do
    local ok, message = store:close()
    if not ok then problem = problem or message end
  end
  streams.stdout:finish()
  if problem then error(problem, 0) end
  return 0
end

return M
