-- SPDX-License-Identifier: MIT
--
-- The file writer: exports into a directory, file after file. It accepts
-- records when the file that holds them is whole:
--
-- Ensures: 1 a file is begun under a name that no other has (O_EXCL), as
-- NAME.part; 2 all of it is on disk before it is renamed, never over another;
-- 3 the new name is on disk before its records are accepted. So a reader of
-- NAME reads all of it, and every record removed from the store is in a file.
--
-- Killed between 3 and the removal, the store still has records that a file
-- holds, too. The next export of the same source into the same directory finds
-- this out (known), and removes them without writing them again.

local archive = require "respool.transfer.format"
local core = require "respool.core"
local file_reader = require "respool.transfer.file_reader"
local files = require "respool.transfer.files"
local options = require "respool.support.options"
local retention = require "respool.transfer.retention"
local timing = require "respool.support.timing"

local huge = math.huge
local file = core.file

local M = {}

---@class respool.file_writer
---@field files string[] published so far, in order
---@field removed string[] by keep_files and keep_for
---@field leftovers string[] .part files of others, found at the beginning
local Writer = {}
Writer.__index = Writer

---@class respool.file_writer_options
---@field store respool.store whose clock tells the age of a file
---@field form "json"|"cbor"? "json"
---@field rotate integer|string? bytes, before compression, in a file
---@field every number? seconds after which a file is published
---@field gzip boolean? false; true: compressed, by the program gzip
---@field zstd boolean? false; true: compressed, by the program zstd
---@field keep_files integer? how many files of the source the directory keeps;
--- older ones are removed when a file is published
---@field keep_for number? seconds for which it keeps them

local FORM = {
  of = "respool.file_writer", store = options.store,
  form = options.choice { json = "json", cbor = "cbor" },
  rotate = options.size, every = options.positive_seconds,
  gzip = options.boolean, zstd = options.boolean,
  keep_files = options.whole(1, huge), keep_for = options.positive_seconds,
}

local ROTATE = 64 * 2^20 -- what moves holds in memory as long as in a file


-- Beginning a file.

-- Makes an empty file NAME.part, such that there is no NAME either: its path
-- and the file.
local function create(w, header)
  local suffix = archive.forms[w.form].suffix
    .. (w.program and w.program.suffix or "")
  while true do
    local path = w.directory .. "/"
      .. files.name(header.source, w.store:now(), suffix)
    local made, message, code = file.create(path .. files.PART, w.store.path)
    if made then return path, made end
    if code ~= "EXISTS" then return nil, message, code end
  end
end

-- A stream into a new file. A program does not hear Ctrl-C before we do; when
-- it fails, the rest is read all the same: a signal must not end us.
local function open_stream(w, made)
  if not w.program then return io.open(made:place(), "wb") end
  return io.popen(("trap '' INT; %s -qc 2>/dev/null >%s || cat >/dev/null")
    :format(w.program.name, made:place(true)), "w")
end

local function begin(w, record, from)
  local header = {
    kind = from.kind, codec = from.codec, store = from.store,
    source = from.name, moved = from.moved, made_at = w.store:now(),
    first = record.number or record.id, version = record.version,
  }
  local path, made, code = create(w, header)
  if not path then return nil, made, code end
  local stream, why, number = open_stream(w, made)
  made:close()
  if not stream then return files.failure("write", path, why, number) end
  stream:setvbuf("full", 65536)
  w.open = {
    path = path, stream = stream, bytes = 0, began = w.store:now(),
    archive = archive.write(w.form, header),
  }
  return true
end

local function put(w, bytes)
  local open = w.open
  local ok, why, number = open.stream:write(bytes)
  if not ok then return files.failure("write", open.path, why, number) end
  open.bytes = open.bytes + #bytes
  return true
end


-- Publishing a file.

-- Whether a program failed is seen by the file.
local function close_stream(w, open)
  local ok, why, number = open.stream:close()
  if ok or w.program then return true end
  return files.failure("write", open.path, why, number)
end

local function check_program(w, open)
  local part = open.path .. files.PART
  if not w.program or w.store.handle:run_command(files.reading(w.program, part))
  then
    return true
  end
  return nil, ("cannot write %s: %s did not write all of it"):format(
    open.path, w.program.name), "IO"
end

-- The same file under the next name that is free.
local function rename(w, open)
  while true do
    local ok, message, code = file.rename(open.path .. files.PART, open.path)
    if ok or code ~= "EXISTS" then return ok, message, code end
    local part = open.path .. files.PART
    local path, made
    path, made, code = create(w, open.archive.header)
    if not path then return nil, made, code end
    made:close()
    local renamed, why = os.rename(part, path .. files.PART)
    if not renamed then return files.failure("rename", part, why) end
    open.path = path
  end
end

local STEPS = {
  function(w, open) return put(w, open.archive:finish()) end,
  close_stream,
  check_program,
  function(w, open)
    return w.store.handle:sync_file(open.path .. files.PART) -- (2)
  end,
  rename,
  function(w) return w.store.handle:sync_file(w.directory) end, -- (3)
}

-- Brings the open file to its name; how many records it holds.
local function publish(w)
  local open = w.open
  for _, step in ipairs(STEPS) do
    local ok, message, code = step(w, open)
    if not ok then return nil, message, code end
  end
  w.open = nil
  w.files[#w.files + 1] = open.path
  local ok, message, code = retention.apply(w, open.archive.header)
  if not ok then return nil, message, code end
  return open.archive.count
end


-- The writer, as respool.export() wants it.

local function write_record(w, record, from)
  if not w.open then
    local ok, message, code = begin(w, record, from)
    if ok then ok, message, code = put(w, w.open.archive:start()) end
    if not ok then return nil, message, code end
  end
  local ok, message, code = put(w, w.open.archive:record(record))
  timing.breathe()
  if not ok then return nil, message, code end
  if w.open.bytes < w.rotate then return 0 end
  return publish(w)
end

-- Whether the open file is old enough.
function Writer:due()
  return self.open ~= nil and self.store:now() - self.open.began >= self.every
end

-- How many records are in files that were published meanwhile.
function Writer:write(batch)
  local accepted = 0
  for _, record in ipairs(batch) do
    local n, message, code = write_record(self, record, batch.source)
    if not n then return nil, message, code end
    accepted = accepted + n
  end
  return accepted
end

function Writer:flush()
  if not self.open then return 0 end
  return publish(self)
end

-- Removes the file that is being written, if any. Its records were
-- not accepted.
function Writer:abandon()
  local open = self.open
  if not open then return end
  self.open = nil
  if io.type(open.stream) == "file" then open.stream:close() end
  os.remove(open.path .. files.PART)
end


-- Records that an earlier export published and did not come to remove.

local function is_same(header, from)
  return header.moved and header.store == from.store
    and header.kind == from.kind and header.source == from.name
end

-- Whether the source still has a record.
local function is_there(source, record, print)
  local there = source:get(record.number or record.id)
  return there ~= nil and archive.print(there) == print
end

-- The next record that can be read.
local function next_record(reader)
  local record, more, _
  repeat record, _, _, more = reader:next() until record or not more
  return record
end

-- Adds the prints of a file's records, if its first one is still in the
-- source, and the numbers of those that are; what is damaged stays there.
local function add_known(path, source, from, prints, numbers)
  local reader, message, code = file_reader.open(path)
  if not reader and code == "CORRUPT" then return true end
  if not reader then return nil, message, code end
  local header = reader:start()
  if not header or not is_same(header, from) then
    reader:close()
    return true
  end
  local first, record = true, next_record(reader)
  while record do
    local print = archive.print(record)
    local there = is_there(source, record, print)
    if first and not there then break end
    if there and not archive.problem(record) then
      numbers[#numbers + 1] = record.number or record.id
    end
    first, prints[print] = false, true
    record = next_record(reader)
  end
  reader:close()
  return true
end

-- A function that says whether a published file holds a record. A file that is
-- no archive holds none; a damaged one, those before the damage.
---@param source respool.source
---@param from respool.record_source
---@return (fun(record: table): boolean)?, integer[]|string, string?
function Writer:known(source, from)
  local paths, message, code = files.list(self.directory)
  if not paths then return nil, message, code end
  local prints, numbers = {}, {}
  for _, path in ipairs(paths) do
    local ok
    ok, message, code = add_known(path, source, from, prints, numbers)
    if not ok then return nil, message, code end
  end
  return function(record)
    return prints[archive.print(record)] or false
  end, numbers
end

-- A writer of files in a directory, which is made (one level) when missing.
---@param directory string
---@param given respool.file_writer_options
---@return respool.file_writer?, string?, string?
---@nodiscard
function M.new(directory, given)
  options.argument(1, "respool.file_writer", directory, options.string)
  local o = options.read(FORM, given, 2)
  options.need(FORM, o, "store")
  local program = files.chosen("respool.file_writer", o)
  local ok, message, code = true, nil, nil
  if program then ok, message, code = files.find(program) end
  if ok then
    ok, message, code = file.make_directory(directory, o.store.path)
  end
  if not ok then return nil, message, code end
  local list, parts = files.list(directory)
  if not list then return nil, parts, "IO" end
  return setmetatable({
    directory = directory, store = o.store, form = o.form or "json",
    rotate = o.rotate or ROTATE, every = o.every or huge,
    program = program, files = {}, leftovers = parts, patience = o.every,
    stored = true,
    keep_files = o.keep_files, keep_for = o.keep_for, headers = {},
    removed = {},
  }, Writer)
end

return M
