-- SPDX-License-Identifier: MIT
--
-- respool export: dead letters or items into archive files, or one archive to
-- the standard output. Moved records are removed file by file, each when it is
-- on disk under its name.

local archive = require "respool.transfer.format"
local arguments = require "respool.cli.base.arguments"
local core = require "respool.core"
local location = require "respool.support.location"
local transfer = require "respool.transfer.export"
local file_writer = require "respool.transfer.file_writer"
local output = require "respool.cli.base.output"
local progress = require "respool.cli.base.progress"
local show = require "respool.cli.base.show"

local check = arguments.check

local M = { summary = "write dead letters or items to files" }

function M.options(command)
  arguments.add_store(command)
  command:argument("name", "Name of a queue or a DLQ."):argname "QUEUE|DLQ"
    :convert(arguments.name)
  command:argument("directory", "Write files into this directory, which is "
    .. "made when missing. Without it one archive is written to the standard "
    .. "output."):argname "DIRECTORY":args "?"
  command:flag("--dead", "Export the dead letters of the DLQ, where a queue "
    .. "has the same name.")
  command:option("--group", "Only dead letters of this group."):argname "GROUP"
  command:option("-n --limit", "Export at most so many.")
    :argname "N":convert(arguments.whole(1))
  command:flag("--remove", "Move: remove from the store what is in a complete "
    .. "file on disk.")
  command:flag("--follow", "Go on with new items or dead letters until Ctrl-C.")
  command:option("--form", "json: JSON Lines; cbor: a CBOR sequence.", "json")
    :choices { "json", "cbor" }
  command:option("--rotate", "Begin a new file after so many bytes before "
    .. "compression. (default: 64MiB)"):argname "BYTES":convert(arguments.size)
  command:option("--every", "Complete a file after so long: 90, 5m, 1h.")
    :argname "SECONDS":convert(arguments.positive_duration)
  command:option("--keep-files", "Keep so many files of the same queue or DLQ "
    .. "in DIRECTORY: remove the oldest when a file is complete.")
    :argname "N":convert(arguments.whole(1))
  command:option("--keep-for", "Keep them for so long.")
    :argname "DURATION":convert(arguments.positive_duration)
  command:mutex(command:flag("--gzip", "Compress with gzip."),
                command:flag("--zstd", "Compress with zstd."))
  command:option("--codec", "Payloads are CBOR, or raw bytes.", "cbor")
    :choices { "cbor", "raw" }
  output.add_json(command)
  command:epilog [[
A queue's name exports its items, a DLQ's name its dead letters. The names of
completed files go to the standard output. A file that is being written has the
suffix .part; one that a killed export left can be deleted. With --remove, items
that are scheduled, retrying or leased stay in the queue. Run again into the
same directory, it completes what was interrupted; items that the interrupted
export had taken are ready again after 20 s, or twice --every.

Damage is reported, and makes the exit status 1. Damaged items are not exported.
Damaged dead letters are, with the bytes that are left; an import passes over
them, and with --remove they stay in the DLQ. Damaged items that --remove finds
in a queue become dead letters. An archive on the standard output that Ctrl-C or
an error cut off has no end mark, by which import recognises it. --json needs a
DIRECTORY, as the output is the archive otherwise.

Examples:
  respool export shop.respool mails --dead --remove --zstd dead/
  respool export shop.respool mails >mails.jsonl]]
end


-- The source of an export.

local function check_name(args, store, queues)
  local names = check(store:dead_letter_queues())
  for _, name in ipairs(queues) do names[#names + 1] = name end
  if arguments.has(names, args.name) then return end
  arguments.fail(("there is no queue or DLQ '%s' in '%s'%s"):format(
    args.name, location.shown(store.path),
    arguments.suggestion(args.name, names)))
end

-- Items that become dead letters while a queue is moved are counted in `died`.
local function find_source(args, store, died)
  local o, queues = { codec = args.codec }, check(store:queues())
  check_name(args, store, queues)
  if not args.dead and not args.group and arguments.has(queues, args.name) then
    o.on_dead = function(death)
      local reason = death.reason
      died[reason] = (died[reason] or 0) + (death.item.items or 1)
    end
    return { queue = check(store:queue(args.name, o)) }
  end
  return { dlq = arguments.dlq(store, args.name, o) }
end

-- Options that mean nothing without files, or without another.
local function check_options(args)
  for _, name in ipairs { "remove", "follow", "rotate", "every", "gzip", "zstd",
                          "json", "keep_files", "keep_for" } do
    if args[name] and not args.directory then
      arguments.misuse(("--%s needs a DIRECTORY"):format(
        (name:gsub("_", "-"))))
    end
  end
end

local function check_source(args, o)
  if o.queue and args.follow and not args.remove then
    arguments.misuse "--follow of a queue needs --remove"
  end
end


-- One archive to the standard output, as a writer.

local function stream_writer(io, form, store)
  local w = { files = {}, leftovers = {}, stored = true }
  local source, open

  function w:begin(from) -- luacheck: no self
    source = from
  end

  -- With the first record, should there be one.
  local function start(record)
    open = archive.write(form, {
      kind = source.kind, codec = source.codec, store = source.store,
      source = source.name, moved = false, made_at = store:now(),
      first = record.number or record.id, version = record.version,
    })
    io.stdout:write(open:start())
  end

  function w:write(batch) -- luacheck: no self
    if not open then start(batch[1]) end
    for _, record in ipairs(batch) do io.stdout:write(open:record(record)) end
    return true
  end

  function w:finish() -- luacheck: no self
    if not open then start {} end
    io.stdout:write(open:finish())
    io.stdout:flush()
  end

  -- A reader that finds no end knows that the archive is not whole.
  function w:abandon() -- luacheck: no self
    io.stdout:flush()
  end
  return w
end

local function files_writer(args, store)
  local w = check(file_writer.new(args.directory, {
    store = store, form = args.form, rotate = args.rotate, every = args.every,
    gzip = args.gzip or nil, zstd = args.zstd or nil,
    keep_files = args.keep_files, keep_for = args.keep_for,
  }))
  function w:finish() end -- luacheck: no self
  return w
end

local function open_writer(args, io, store)
  if args.directory then return files_writer(args, store) end
  return stream_writer(io, args.form, store)
end


-- Telling.

local function say(io, text, ...)
  io.stderr:write("respool: ", output.clean(text:format(...)), "\n")
end

-- Prints the names of files as they are published.
local function new_printer(args, io, writer)
  local told = 0
  return function()
    for i = told + 1, args.json and 0 or #writer.files do
      io.stdout:write(writer.files[i], "\n")
    end
    io.stdout:flush()
    told = #writer.files
  end
end

local function noun_of(o)
  return o.queue and "item" or "dead letter"
end

local function tell_damaged(io, o, counts)
  if counts.damaged == 0 then return end
  local what = o.queue and "not exported"
    or o.remove and "left in the DLQ"
    or "an import passes over them"
  say(io, "%s damaged, %s: %s", output.count(counts.damaged, noun_of(o)), what,
      output.ranges(counts.damaged_numbers, counts.damaged))
end

-- Whether other items died meanwhile than those that had expired.
local function tell_died(io, died)
  local bad = false
  for reason, n in pairs(died) do
    say(io, "%s dead-lettered: %s (see respool dead list)",
        output.count(n, "item"), reason)
    bad = bad or reason ~= "expired"
  end
  return bad
end

local function tell_left(io, o, counts)
  if counts.lost > 0 then
    say(io, "%s in a file but not removed: another process took them",
        output.count(counts.lost, noun_of(o)))
  end
  if not o.queue or not o.remove then return end
  local text = show.staying(check(o.queue:length()))
  if text then say(io, "%s", text) end
end

local function summary(args, io, o, writer, counts)
  if args.json then
    counts.files = core.cbor.array(writer.files)
    counts.damaged_numbers = core.cbor.array(counts.damaged_numbers)
    output.json(io, counts)
  elseif args.directory and io.stderr:isatty() then
    io.stderr:write(("%s written to %s, %s removed\n"):format(
      output.count(counts.written, noun_of(o)),
      output.count(#writer.files, "file"),
      output.number(counts.removed + counts.known)))
  end
  tell_damaged(io, o, counts)
  tell_left(io, o, counts)
end


-- Running.

local STOPPED = 130
local CAPACITY = 100 -- in hand at most, so that little waits after a kill

local function new_hook(io, o, print_files)
  local shown, signals = nil, core.process.signals()
  return function(counts)
    shown = shown or progress.new(io, {
      noun = noun_of(o), total = counts.total > 0 and counts.total or nil,
    })
    shown:update(counts.read)
    print_files()
    return core.process.signals() == signals
  end, function()
    if shown then shown:clear() end
    return core.process.signals() > signals
  end
end

local function run(args, io, o, writer, died)
  local print_files = new_printer(args, io, writer)
  local ended
  o.writer, o.remove, o.follow = writer, args.remove, args.follow
  o.group, o.limit, o.batch = args.group, args.limit, CAPACITY
  o.on_progress, ended = new_hook(io, o, print_files)
  local counts, message, _, so_far = transfer.export(o)
  local stopped = ended()
  if counts and (args.directory or not stopped) then
    writer:finish()
  else
    writer:abandon()
  end
  print_files()
  if counts or so_far then summary(args, io, o, writer, counts or so_far) end
  local bad = tell_died(io, died)
  if not counts then arguments.fail(message) end
  if stopped then arguments.fail("stopped", STOPPED) end
  return (bad or counts.lost + counts.damaged > 0) and 1 or 0
end

function M.run(args, io)
  check_options(args)
  core.process.watch()
  local store = arguments.open(io, args.store)
  local died = {}
  local o = find_source(args, store, died)
  check_source(args, o)
  local writer = open_writer(args, io, store)
  if #writer.leftovers > 0 then
    say(io, "%d unfinished files in %s: killed exports left them, or others "
      .. "are being written (%s)", #writer.leftovers, args.directory,
      writer.leftovers[1]:match "[^/]*$")
  end
  return run(args, io, o, writer, died)
end

return M
