-- SPDX-License-Identifier: MIT
--
-- The records of an input: its lines, or the values of a CBOR sequence (RFC
-- 8742). Each record has its number, from 1, and the place where it ends, in
-- bytes from the beginning of the input, so that reading can go on from there.

local core = require "respool.core"
local arguments = require "respool.cli.base.arguments"
local output = require "respool.cli.base.output"

local input, process = core.input, core.process

local M = {}

---@class respool.cli.record
---@field bytes string? without the newline; nil: longer than records may be
---@field number integer
---@field stop integer bytes of the input up to its end
---@field tail string the last bytes before `stop`
---@field open boolean? the input ended before the record did

---@class respool.cli.records
---@field number integer records so far
---@field offset integer bytes of the input before the buffer
local Records = {}
Records.__index = Records

local TAIL = 32
local LONGEST = 3 * 2^25 -- bytes, half as much again as a store takes

-- Where the first line from `at` on ends, and where the next begins.
local function line(buffer, at)
  local stop = buffer:find("\n", at, true)
  if stop then return stop - 1, stop + 1 end
end

-- The same of a value.
local function value(buffer, at)
  if at > #buffer then return nil end
  local after = core.cbor.skip(buffer, at)
  if after then return after - 1, after end
end

-- Reads records from a file of Lua's io that was not read from yet.
---@param file file*
---@param name string for messages
---@param kind "lines"|"sequence"
---@param longest integer? bytes of a record at most
---@return respool.cli.records
function M.new(file, name, kind, longest)
  return setmetatable({
    longest = longest or LONGEST,
    file = file, name = name, cut = kind == "lines" and line or value,
    lines = kind == "lines", buffer = "", at = 1, offset = 0, number = 0,
    dropped = false, ended = false,
  }, Records)
end

local signals = process.signals()

-- Whether SIGINT or SIGTERM came since this module was loaded.
---@return boolean
function M.is_stopped()
  return process.signals() > signals
end

-- Waits for more; false when there is none for so long, or a signal came.
local function wait(r, seconds)
  local ready, message, code = input.wait(r.file, seconds)
  if ready == nil and code ~= "INTERRUPTED" then
    arguments.fail(("cannot read %s: %s"):format(r.name, message))
  end
  return ready
end

-- Reads the available bytes; nil after a signal.
local function read(r)
  local chunk, message, code = input.read(r.file)
  if not chunk and code ~= "INTERRUPTED" then
    arguments.fail(("cannot read %s: %s"):format(r.name,
      (message:gsub("^read: ", ""))))
  end
  return chunk
end

-- Puts what comes behind the rest of the buffer, at least as much again as
-- that is: so the work stays in proportion however long a record is.
local function fill(r, patience)
  local rest = r.buffer:sub(r.at)
  local parts, got = { rest }, 0
  repeat
    local chunk = not M.is_stopped() and wait(r, patience) and read(r)
    if not chunk then break end
    if chunk == "" then r.ended = true end
    parts[#parts + 1], got = chunk, got + #chunk
  until r.ended or got > #rest
  r.offset = r.offset + r.at - 1
  r.buffer, r.at = table.concat(parts), 1
  return got > 0 or r.ended
end

-- A record too long for any store is passed over as it comes.
local function drop_longest(r)
  if #r.buffer - r.at < r.longest then return end
  if not r.lines then
    arguments.fail(("%s: value %d is malformed, or longer than %s"):format(
      r.name, r.number + 1, output.bytes(r.longest)))
  end
  r.at, r.dropped = #r.buffer + 1, true
end

local function record(r, stop, after)
  local long = r.dropped or stop - r.at >= r.longest
  local found = {
    bytes = not long and r.buffer:sub(r.at, stop) or nil,
    number = r.number + 1, stop = r.offset + after - 1,
    tail = r.buffer:sub(math.max(r.at, after - TAIL), after - 1),
  }
  r.number, r.at, r.dropped = found.number, after, false
  return found
end

-- The incomplete record at the end of the input.
local function last(r)
  if r.at > #r.buffer and not r.dropped then return nil end
  local found = record(r, #r.buffer, #r.buffer + 1)
  found.open = true
  return found
end

-- The next record. Nil at the end, and true when that is not the end: nothing
-- came for `patience` seconds (negative: waits on), or a signal did.
---@param patience number
---@return respool.cli.record?, boolean? more
function Records:next(patience)
  while true do
    local stop, after = self.cut(self.buffer, self.at)
    if stop then return record(self, stop, after) end
    if self.ended then return last(self), false end
    drop_longest(self)
    if not fill(self, patience) then return nil, true end
  end
end

-- The size of the input, if it is a regular file.
---@return integer?
function Records:size()
  return input.size(self.file)
end

-- Reads `n` bytes and forgets all but the last `keep` of them.
local function pass(r, n, keep)
  local kept = ""
  while n > 0 do
    local chunk = not M.is_stopped() and wait(r, -1) and read(r)
    if not chunk or chunk == "" then return nil end
    r.buffer = chunk:sub(n + 1)
    chunk = chunk:sub(1, n)
    kept = (kept .. chunk):sub(-keep)
    n = n - #chunk
  end
  return kept
end

-- Goes to where a record ended: false when the input is another one there.
---@param to respool.cli.record
---@return boolean
function Records:go_to(to)
  local before = to.stop - #to.tail
  local skipped = input.seek(self.file, before) and before or 0
  local kept = pass(self, to.stop - skipped, math.max(#to.tail, 1))
  self.offset, self.number = to.stop, to.number
  return to.stop == 0 or kept ~= nil and kept:sub(-#to.tail) == to.tail
end

return M
