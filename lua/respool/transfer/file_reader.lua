-- SPDX-License-Identifier: MIT
--
-- The file reader: archives from files, one after the other. The form of a
-- file, JSON Lines or CBOR, compressed or not, is known by its first bytes.

local archive = require "respool.transfer.format"
local core = require "respool.core"
local files = require "respool.transfer.files"
local options = require "respool.support.options"

local M = {}

local BLOCK = 65536


-- Inputs: take(n) and line() over a stream, as archives want them.

local Input = {}
Input.__index = Input

local function input(stream, path)
  return setmetatable({
    stream = stream, path = path, rest = "", at = 0,
  }, Input)
end

-- The next block, or nil at the end.
local function block(self)
  local bytes = self.stream:read(BLOCK)
  if bytes then self.at = self.at + #bytes end
  return bytes
end

-- The first bytes, left where they are.
function Input:peek(n)
  while #self.rest < n do
    local bytes = block(self)
    if not bytes then break end
    self.rest = self.rest .. bytes
  end
  return self.rest:sub(1, n)
end

local function is_cut(have)
  return nil, have > 0 and "it is cut off" or nil
end

local function is_long(most)
  return nil, ("it is longer than %.0f bytes"):format(most)
end

-- The next n bytes.
function Input:take(n, most)
  if n > most then return is_long(most) end
  local parts, have = { self.rest }, #self.rest
  while have < n do
    local bytes = block(self)
    if not bytes then
      self.rest = ""
      return is_cut(have)
    end
    parts[#parts + 1], have = bytes, have + #bytes
  end
  local all = table.concat(parts)
  self.rest = all:sub(n + 1)
  return all:sub(1, n)
end

-- The next line, without its end.
function Input:line(most)
  local parts, bytes, have = {}, self.rest, 0
  while bytes do
    local stop = bytes:find("\n", 1, true)
    have = have + (stop or #bytes)
    if have > most then return is_long(most) end
    if stop then
      parts[#parts + 1] = bytes:sub(1, stop - 1)
      self.rest = bytes:sub(stop + 1)
      return table.concat(parts)
    end
    parts[#parts + 1] = bytes
    bytes = block(self)
  end
  self.rest = ""
  return is_cut(have)
end


-- Opening.

local function program_of(head)
  for _, program in pairs(files.programs) do
    if head:sub(1, #program.magic) == program.magic then return program end
  end
end

local function form_of(head)
  local c = head:sub(1, 1)
  return c == "{" and "json" or c == "\130" and "cbor" or nil
end

local function open_packed(program, path)
  local ok, message, code = files.find(program)
  if not ok then return nil, message, code end
  local from = input(io.popen(("exec %s -dc <%s 2>/dev/null"):format(
    program.name, files.quote(path)), "r"), path)
  from.program = program
  return from
end

-- The problem of an input, and whose fault it is if it was compressed.
local function blame(from, message)
  local program = from.program
  if not program or files.succeeds(files.reading(program, from.path)) then
    return message
  end
  return ("%s (%s cannot unpack all of the file)"):format(message, program.name)
end

local function first_bytes(stream)
  return stream:read(4) or ""
end

local function open_plain(path)
  local stream, why, number = io.open(path, "rb")
  if not stream then return files.failure("read", path, why, number) end
  return stream
end

local function open_input(path)
  local kind, message, code = core.file.kind(path)
  if not kind then return nil, message, code end
  if kind == "directory" then
    return nil, ("cannot read %s: it is a directory"):format(path), "IO"
  end
  local stream
  stream, message, code = open_plain(path)
  if not stream then return nil, message, code end
  if kind == "other" then return input(stream, path) end
  local program = program_of(first_bytes(stream))
  if not program then
    stream:seek("set", 0)
    return input(stream, path)
  end
  stream:close()
  return open_packed(program, path)
end

local function packed(head)
  local program = program_of(head)
  if not program then return nil, archive.PLAIN, "CORRUPT" end
  return nil, ("this is compressed: pass it through %s -dc"):format(
    program.name), "CORRUPT"
end

---@class respool.file_archive: respool.archive_reader
---@field input table

local function add_close(reader)
  function reader:close()
    if self.input.stream ~= io.stdin then self.input.stream:close() end
  end
  return reader
end

-- The archives in an input.
local function read_input(from, most)
  local head = from:peek(4)
  if head == "" then return nil, "it is empty", "CORRUPT" end
  local form = form_of(head)
  if not form then return packed(head) end
  return add_close(archive.read(form, from, most))
end

local MOST = 2^28 -- bytes: payload and original of 64 MiB each, in base64

-- The archives in a file, or with "-" in the standard input.
---@param path string
---@param most integer? bytes of a record at most; 256 MiB
---@return respool.file_archive?, string?, string?
---@nodiscard
function M.open(path, most)
  if path:sub(-#files.PART) == files.PART then
    return nil, ("%s was never finished: it is what a killed export left")
      :format(path), "CORRUPT"
  end
  local from, message, code
  if path == "-" then
    from = input(io.stdin, "standard input")
  else
    from, message, code = open_input(path)
    if not from then return nil, message, code end
  end
  local reader
  reader, message, code = read_input(from, most or MOST)
  if reader then return reader end
  if from.stream ~= io.stdin then from.stream:close() end
  return nil, ("%s: %s"):format(from.path, blame(from, message)), code
end


-- The reader, as respool.import() wants it.

---@class respool.file_reader
---@field problems string[] what was wrong with files
---@field finished string[] files of which all is imported
local Reader = {}
Reader.__index = Reader

---@class respool.file_reader_options
---@field delete boolean? removes each file of which all is imported
---@field records integer? in a batch at most; 500
---@field bytes integer|string? of payload in a batch at most; 4 MiB
---@field max_record integer|string? bytes of one record at most, unpacked;
--- 256 MiB

local FORM = {
  of = "respool.file_reader", delete = options.boolean,
  records = options.whole(1, 2^31), bytes = options.size,
  max_record = options.size,
}

local RECORDS, BYTES = 500, 4 * 2^20

local function note(reader, message, code)
  table.insert(reader.problems, message)
  reader.code = reader.code or code
end

-- Notes what is wrong with the file in hand.
local function note_file(reader, message, code)
  local from = reader.current.reader.input
  note(reader, ("%s: %s"):format(from.path, message), code)
end

-- Ends the file in hand. `whole` says that all of it was read.
local function leave(reader, whole)
  local current = reader.current
  current.reader:close()
  current.whole = whole
  reader.current = nil
end

-- Opens the next file that can be; nil when there is none.
local function enter(reader)
  while not reader.current and reader.at < #reader.paths do
    reader.at = reader.at + 1
    local path = reader.paths[reader.at]
    local opened, message, code = M.open(path, reader.most)
    if opened then
      reader.current = {
        path = path, reader = opened, failed = 0, unreadable = 0,
      }
    else
      note(reader, message, code)
    end
  end
  return reader.current
end

local function new_batch(current)
  local header = current.reader.header
  return {
    file = current, source = header and {
      store = header.store, kind = header.kind, name = header.source,
      codec = header.codec, moved = header.moved,
    },
  }
end

local UNREADABLE = 10 -- records of a file that are named one by one

-- A record that is as it was written, but cannot be read here.
local function pass_over(reader, current, message, code)
  current.failed = current.failed + 1
  current.unreadable = current.unreadable + 1
  if current.unreadable <= UNREADABLE then
    note_file(reader, message, code)
  end
end

-- The next record of the file in hand; nil at its end, or where it is damaged.
local function next_record(reader, current)
  local ahead = current.ahead
  current.ahead = nil
  if ahead then return ahead end
  while true do
    local record, message, code, more = current.reader:next()
    if record then return record end
    if not more then return nil, message, code end
    pass_over(reader, current, message, code)
  end
end

local function finish_file(reader, current, message, code)
  if current.unreadable > UNREADABLE then
    note_file(reader, ("and %d other records"):format(
      current.unreadable - UNREADABLE), "CORRUPT")
  end
  if message then
    note_file(reader, blame(current.reader.input, message), code)
  end
  leave(reader, message == nil)
end

-- Fills a batch from the file in hand, of one archive.
local function fill(reader, current)
  local batch, size, header = nil, 0, nil
  while not batch or #batch < reader.records and size < reader.bytes do
    local record, message, code = next_record(reader, current)
    if not record then
      finish_file(reader, current, message, code)
      break
    end
    header = header or current.reader.header
    if header ~= current.reader.header then -- another archive begins
      current.ahead = record
      break
    end
    batch = batch or new_batch(current)
    batch[#batch + 1], size = record, size + #record.bytes
  end
  return batch or { file = current }
end

-- The next records, all of one archive; nil at the end of the last file.
---@return table?
function Reader:read()
  local current = enter(self)
  if not current then return nil end
  return fill(self, current)
end

local function finish(reader, current)
  if not current.whole or current.finished or current.failed > 0 then
    return true
  end
  current.finished = true
  table.insert(reader.finished, current.path)
  if not reader.delete or current.path == "-" then return true end
  local ok, why, number = os.remove(current.path)
  if ok then return true end
  return files.failure("remove", current.path, why, number)
end

-- Called when a batch is in the store, but for so many records of it.
---@param batch table
---@param failed integer
---@return true?, string?, string?
function Reader:accepted(batch, failed)
  batch.file.failed = batch.file.failed + failed
  return finish(self, batch.file)
end

-- How far the file in hand is read, in bytes of it or of what was compressed.
---@return integer
function Reader:position()
  return self.current and self.current.reader.input.at or 0
end

local function list_of_paths(value)
  local ok = type(value) == "table"
  for _, path in ipairs(ok and value or {}) do
    ok = ok and type(path) == "string"
  end
  return ok and value or nil, "a list of names of files"
end

-- A reader of files, and of the archives in directories; "-" is the standard
-- input. A problem of one file is noted in `problems`, with the first
-- `code`, and the next file is read.
---@param paths string[]
---@param given respool.file_reader_options?
---@return respool.file_reader?, string?, string?
---@nodiscard
function M.new(paths, given)
  options.argument(1, "respool.file_reader", paths, list_of_paths)
  local o = options.read(FORM, given, 2)
  local list = {}
  for _, path in ipairs(paths) do
    if core.file.kind(path) == "directory" then
      local found, message, code = files.list(path)
      if not found then return nil, message, code end
      for _, name in ipairs(found) do list[#list + 1] = name end
    else
      list[#list + 1] = path
    end
  end
  return setmetatable({
    paths = list, at = 0, delete = o.delete, problems = {}, finished = {},
    records = o.records or RECORDS, bytes = o.bytes or BYTES,
    most = o.max_record,
  }, Reader)
end

return M
