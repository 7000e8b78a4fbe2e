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
---@field longest integer bytes of a record at most
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

local function has_newline(chunk)
  return chunk and chunk:find("\n", 1, true) ~= nil
end

-- Whether enough was read behind the first `rest` bytes. Of a line: its end, or
-- more than a line may have. Of a value: at least as much again, so that the
-- work stays in proportion however long it is.
local function is_enough(r, chunk, size, rest)
  local most = r.dropped and 0 or r.longest
  return r.ended or size > most or r.lines and has_newline(chunk)
    or not r.lines and size > 2 * rest
end

-- The beginning of a line that is too long is forgotten as it comes.
local function is_passed_over(r, chunk, size)
  return r.lines and not has_newline(chunk)
    and (r.dropped or size > r.longest)
end

local function refuse_longest(r)
  arguments.fail(("%s: value %d is malformed, or longer than %s"):format(
    r.name, r.number + 1, output.bytes(r.longest)))
end

-- Puts what comes behind the rest of the buffer.
local function fill(r, patience)
  local rest = r.at > 1 and r.buffer:sub(r.at) or r.buffer
  local parts, size, chunk = { rest }, #rest
  if not r.lines and size >= r.longest then refuse_longest(r) end
  r.offset, r.buffer, r.at = r.offset + r.at - 1, "", 1
  repeat
    chunk = not M.is_stopped() and wait(r, patience) and read(r)
    if not chunk then break end
    if chunk == "" then r.ended = true end
    parts[#parts + 1], size = chunk, size + #chunk
  until is_enough(r, chunk, size, #rest)
  if is_passed_over(r, chunk, size) then
    r.dropped, r.offset = true, r.offset + size
  else
    r.buffer = table.concat(parts)
  end
  return #parts > 1
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
