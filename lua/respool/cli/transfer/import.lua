-- SPDX-License-Identifier: MIT
--
-- respool import: archive files into a queue. A record that was imported before
-- is passed over, so a killed import is begun again as it was.

local archive = require "respool.transfer.format"
local arguments = require "respool.cli.base.arguments"
local core = require "respool.core"
local file_reader = require "respool.transfer.file_reader"
local output = require "respool.cli.base.output"
local progress = require "respool.cli.base.progress"
local transfer = require "respool.transfer.import"

local check = arguments.check

local M = { summary = "push what an export wrote" }

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
  command:argument("files", "Files that an export wrote, or directories of "
    .. "them. - or nothing reads stdin."):argname "FILE":args "*"
  command:flag("--again", "Also import records that were imported into this "
    .. "queue before.")
  command:flag("--delete", "Delete each file that is imported completely.")
  command:flag("--verify", "Only read and check the files.")
  command:option("--on-conflict", "When an item of the queue has the key of a "
    .. "record: fail reports it, ignore passes over the record, replace "
    .. "removes the item.", "fail"):choices { "fail", "ignore", "replace" }
  command:option("--payload-version",
                 "Refuse records with a newer payload version.")
    :argname "N":convert(arguments.whole(0))
  command:option("--rate", "Import so many records a second at most, at an "
    .. "even pace."):argname "N":convert(arguments.positive)
  command:option("--while-below", "Wait while the queue is fuller than this "
    .. "share of its bounds, and for room.")
    :argname "SHARE":convert(arguments.share)
  command:option("--every", "Read the files and directories again and "
    .. "again, with this pause between, until Ctrl-C.")
    :argname "TIME":convert(arguments.duration)
  command:option("--max-line", "Refuse a file with a longer record, unpacked. "
    .. "(default: 256MiB)"):argname "BYTES":convert(arguments.size)
  output.add_json(command)
  command:epilog [[
The store and the queue are made when missing. Each record has a checksum. Of a
file that is damaged or cut off, the records before the damage are imported, and
the exit status is 1. A record that cannot be pushed, such as a damaged dead
letter, is reported, and the others are pushed. Importing a file twice, or again
after a crash, pushes each of its records once. With --on-conflict ignore, the
records that were passed over are counted apart and are not known as imported.

With --every, what other programs put into a directory is imported as it comes;
files whose names end in .part are left until they are whole. With --delete,
none is read twice. --json then names the last 1,000 files.

Examples:
  respool import shop.respool mails dead/
  ssh old-host respool export shop.respool mails | \
    respool import shop.respool mails]]
end


-- The files to read.

-- Wrong names are reported before anything is made or pushed.
local function check_paths(paths)
  for _, path in ipairs(paths) do
    local kind, message = true, nil
    if path ~= "-" then kind, message = core.file.kind(path) end
    if not kind then arguments.misuse(message) end
  end
  return paths
end

local function paths_of(args)
  if #args.files > 0 then return check_paths(args.files) end
  if core.terminal.isatty(0) then
    arguments.misuse "name the files to import, or pipe an archive in"
  end
  return { "-" }
end

local ERRORS = 10

-- Counts a record that an import would report.
local function check_record(counts, record)
  local problem = archive.problem(record)
  counts.read = counts.read + 1
  if not problem then return end
  counts.failed = counts.failed + 1
  if #counts.errors < ERRORS then
    table.insert(counts.errors, ("%s %.0f: %s"):format(
      record.number and "dead letter" or "item", record.number or record.id,
      problem))
  end
end

local LAST = 1000 -- files and problems that an endless import remembers

-- Whether a text has not come lately; of the last LAST or more it is known.
local function newcomers()
  local new, old, n = {}, {}, 0
  return function(text)
    if new[text] or old[text] then return false end
    if n == LAST then old, new, n = new, {}, 0 end
    new[text], n = true, n + 1
    return true
  end
end

-- A reader that never ends: behind the end of `reader` it goes on with another,
-- of the files and directories as they are then. A problem of a file is
-- reported once; `finished` are the last files.
local function endless(io, reader, open)
  local all, is_new = { problems = {}, finished = {} }, newcomers()
  local function tell()
    for _, problem in ipairs(reader.problems) do
      if is_new(problem) then
        io.stderr:write("respool: ", output.clean(problem), "\n")
      end
    end
  end
  function all.read()
    local batch = reader:read()
    if batch then return batch end
    tell()
    reader = open()
  end
  function all.accepted(_, batch, failed)
    local ok, message, code = reader:accepted(batch, failed)
    local path = reader.finished[#reader.finished]
    if path and is_new(path) then
      table.insert(all.finished, path)
      if #all.finished > LAST then table.remove(all.finished, 1) end
    end
    return ok, message, code
  end
  return all
end

local function open_reader(args, io)
  local paths = paths_of(args)
  local function open()
    return check(file_reader.new(paths, {
      delete = (args.delete and not args.verify) or nil,
      max_record = args.max_line,
    }))
  end
  if not args.every then return open() end
  if args.verify then
    arguments.misuse "--every is for imports, not for --verify"
  elseif args.every == 0 then
    arguments.misuse "--every: 0 is no time between two looks"
  end
  for _, path in ipairs(paths) do
    if path == "-" then arguments.misuse "--every reads files, not stdin" end
  end
  return endless(io, open(), open)
end

local function verify(reader, hook)
  local counts = {
    read = 0, pushed = 0, ignored = 0, known = 0, failed = 0, errors = {},
  }
  local batch = reader:read()
  while batch and hook(counts) ~= false do
    for _, record in ipairs(batch) do check_record(counts, record) end
    reader:accepted(batch, 0)
    batch = reader:read()
  end
  return counts
end

local function import(args, io, reader, hook)
  local store = arguments.open(io, args.store, { create = true })
  local queue =
    check(store:queue(args.queue, { version = args.payload_version }))
  return transfer.import {
    to = queue, reader = reader, again = args.again, as_stored = true,
    on_conflict = args.on_conflict, on_progress = hook,
    rate = args.rate, while_below = args.while_below, interval = args.every,
  }
end


-- Reports.

local function say(io, text, ...)
  io.stderr:write("respool: ", output.clean(text:format(...)), "\n")
end

local function tell_problems(io, reader, counts)
  for _, problem in ipairs(reader.problems) do say(io, "%s", problem) end
  for _, failure in ipairs(counts.errors) do say(io, "%s", failure) end
  if counts.failed > #counts.errors then
    say(io, "and %d others that were not imported",
        counts.failed - #counts.errors)
  end
end

local function summary(args, io, reader, counts)
  tell_problems(io, reader, counts)
  if args.json then
    counts.files = core.cbor.array(reader.finished)
    counts.problems = core.cbor.array(reader.problems)
    counts.errors = core.cbor.array(counts.errors)
    return output.json(io, counts)
  elseif args.verify then
    io.stdout:write(("%s in %s\n"):format(
      output.count(counts.read, "record"),
      output.count(#reader.finished, "whole file")))
  else
    local ignored = counts.ignored > 0 and (" %s ignored,"):format(
      output.number(counts.ignored)) or ""
    io.stdout:write(("%s pushed,%s %s imported before, %s not imported\n")
      :format(output.number(counts.pushed), ignored,
              output.number(counts.known), output.number(counts.failed)))
  end
end


-- Running.

local STOPPED = 130

local function new_hook(io)
  local shown = progress.new(io, { noun = "record" })
  local signals = core.process.signals()
  local function is_stopped()
    return core.process.signals() > signals
  end
  return function(counts)
    shown:update(counts.read)
    return not is_stopped()
  end, function()
    shown:clear()
    return is_stopped()
  end
end

function M.run(args, io)
  local reader = open_reader(args, io)
  core.process.watch(true)
  local hook, ended = new_hook(io)
  local counts, message, _, so_far
  if args.verify then
    counts = verify(reader, hook)
  else
    counts, message, _, so_far = import(args, io, reader, hook)
  end
  local stopped = ended()
  if counts or so_far then summary(args, io, reader, counts or so_far) end
  if stopped then
    arguments.fail("stopped; begun again, it goes on where it was", STOPPED)
  end
  if not counts then arguments.fail(message) end
  return (counts.failed > 0 or #reader.problems > 0) and 1 or 0
end

return M
