-- SPDX-License-Identifier: MIT
--
-- respool push: lines or values of a file into a queue.
--
-- Ensures:
-- 1. Each batch is committed together with how far it takes the input: a note,
--    see respool/cli/base/notes.lua. So at any moment the store holds the
--    records up to there and no other, and --resume goes on behind them.
-- 2. A record that cannot be pushed is reported with its number and why, and
--    counted; the others are pushed.
-- 3. A last record without an end of its own, in an input that may still grow,
--    is left for the next --resume, so that no part of a record is taken for
--    the whole.

local arguments = require "respool.cli.base.arguments"
local codec = require "respool.support.codec"
local core = require "respool.core"
local json = require "respool.support.json"
local notes = require "respool.cli.base.notes"
local output = require "respool.cli.base.output"
local progress = require "respool.cli.base.progress"
local records = require "respool.cli.queue.records"

local check = arguments.check

local M = { summary = "push the lines of a file or of a pipe" }

local BATCH = 1000
local BYTES = 2^22   -- of payload, after which a batch is committed anyway
local PATIENCE = 0.2 -- seconds that what has come waits for more

function M.options(command)
  arguments.add_store(command)
  arguments.add_queue(command, true)
  command:argument("file", "Input: JSON Lines. - or nothing reads stdin.")
    :argname "FILE":args "?"
  command:mutex(
    command:flag("--raw", "Push each line as it is, without decoding it."),
    command:flag("--cbor", "Read a CBOR sequence (RFC 8742)."))
  command:option("--key", "Use the value at this path of the payload, such as "
    .. "user.id, as the item's key, which one item of the queue has at a time: "
    .. "see --on-conflict.")
    :argname "PATH"
  command:option("--on-conflict", "What to do with a line whose key is in use.")
    :choices { "fail", "ignore", "replace" }:default "fail"
  command:option("--partition", "Put the items into this partition.")
    :argname "KEY":convert(arguments.key)
  command:option("--priority", "Give the items this priority, 0 to 255.")
    :argname "N":convert(arguments.whole(0, 255))
  command:option("--delay", "Schedule the items for later: 90s, 5m, 2h.")
    :argname "TIME":convert(arguments.duration)
  command:option("--ttl", "Expire the items after so long.")
    :argname "TIME":convert(arguments.duration)
  command:option("--max-line", "Pass over longer lines, and report them. "
    .. "(default: 96MiB)"):argname "BYTES":convert(arguments.size)
  command:option("--batch", "Commit so many lines together.", tostring(BATCH))
    :argname "N":convert(arguments.whole(1, 100000))
  command:mutex(
    command:flag("--resume", "Go on where the last push of this file into "
      .. "this queue ended or was interrupted."),
    command:flag("--restart", "As --resume, but from the beginning of the "
      .. "file."))
  command:flag("--whole", "With --resume or --restart: also push a last line "
    .. "without a newline.")
  command:epilog [[
The store and the queue are made when missing. A line that is not valid JSON is
reported with its number, and the others are pushed; the exit status is 1 then.
Lines that were ignored because their keys are in use are counted apart.

The place up to which a file has been pushed is stored with each commit, and
--resume goes on there. It is for files that grow: a last line without a newline
that may not be complete is left for the next run, and reported. A push without
--resume begins at the beginning of the file. For a pipe the place is stored
only with --resume or --restart.

Examples:
  respool push shop.respool mails mails.jsonl --batch 5000
  zcat events.gz | respool push shop.respool events - --key id --resume]]
end


-- Decoding of records.

local DECODERS = {}

function DECODERS.json(bytes)
  return json.to_cbor(bytes)
end

function DECODERS.cbor(bytes)
  local payload, why = core.cbor.decode(bytes)
  if payload == nil then return nil, why end
  return bytes
end

function DECODERS.raw(bytes)
  return bytes
end

-- The key at a path of a payload, such as user.id.
local function key_at(payload, path)
  local at = payload
  for name in path:gmatch "[^.]+" do
    if type(at) ~= "table" then return nil end
    local next_one = at[name]
    if next_one == nil then next_one = at[tonumber(name)] end
    at = next_one
  end
  if type(at) == "number" then return json.encode(at) end
  return type(at) == "string" and at or nil
end

local function checked_key(run, payload)
  local key = key_at(payload, run.args.key)
  if not key then
    return nil, ("no string or number at '%s' for a key"):format(run.args.key)
  elseif #key < 1 or #key > 255 then
    return nil, "the key is not of 1 to 255 bytes"
  end
  return key
end

local MARK = "^\239\187\191" -- of UTF-8, as some programs begin a file

-- The body and key of a record; or nil and why there is none.
local function read_record(run, record)
  local bytes = record.bytes
  if not bytes then
    return nil, ("longer than %s (--max-line)"):format(
      output.bytes(run.records.longest))
  end
  if record.number == 1 and run.format == "json" then
    bytes = bytes:gsub(MARK, "")
  end
  local body, why = run.decode(bytes)
  if not body then return nil, why end
  if #body > run.store.max_item_bytes then
    return nil, ("%d bytes are more than an item may have, %d"):format(
      #body, run.store.max_item_bytes)
  end
  if not run.args.key then return body end
  local key
  key, why = checked_key(run, core.cbor.decode(body))
  if not key then return nil, why end
  return body, key
end

local function refuse(run, record, why)
  run.bad = run.bad + 1
  run.progress:clear()
  run.io.stderr:write(("respool: %s %d: %s\n"):format(
    run.noun, record.number, output.clean(why)))
end


-- Commits. Adding to one returns the steps added.

local function push_keyed(run, tx, batch)
  local steps = {}
  for i, entry in ipairs(batch) do
    steps[i] = tx:push(run.queue, entry.body, {
      key = entry.key, on_conflict = run.args.on_conflict,
      partition = run.options.partition,
      priority = run.options.priority, delay = run.options.delay,
      ttl = run.options.ttl,
    })
  end
  return steps
end

local function push_plain(run, tx, batch)
  local bodies = {}
  for i, entry in ipairs(batch) do bodies[i] = entry.body end
  if #bodies > 0 then tx:push_many(run.queue, bodies, run.options) end
  return {}
end

local function count(run, batch, steps)
  local ignored = 0
  for _, step in ipairs(steps) do
    if step.held then ignored = ignored + 1 end
  end
  run.pushed = run.pushed + #batch - ignored
  run.ignored = run.ignored + ignored
end

local function put_note(run, tx, place)
  if not run.name then return end
  notes.put(tx, "push", run.name, {
    number = place.number, stop = place.stop, tail = place.tail,
    open = place.open, at = run.store:now(),
  })
end

-- Commits a batch with the place behind it (ensures 1).
local function commit(run, batch, place)
  local steps
  local ok, message, code = run.store:transaction(function(tx)
    local push = run.args.key and push_keyed or push_plain
    steps = push(run, tx, batch)
    put_note(run, tx, place)
  end)
  if ok then count(run, batch, steps) end
  return ok, message, code
end

local function stop_at(run, entry, message)
  run.progress:clear()
  arguments.fail(("%s %d: %s; %d pushed%s"):format(
    run.noun, entry.place.number, message, run.pushed,
    run.name and ", --resume goes on there" or ""))
end

-- Errors of one item, not of the queue or the store.
local OF_ITEM = { EXISTS = true, TOO_LARGE = true }

local function waits_for_room(run, code)
  return code == "FULL" and run.waits and not records.is_stopped()
end

-- Commits one item: if it is refused, it is reported and passed over. A queue
-- whose overflow is "wait" makes us wait for room, too.
local function commit_one(run, entry, place)
  local ok, message, code = commit(run, { entry }, place)
  while not ok and waits_for_room(run, code) do
    core.process.nap(0.05)
    ok, message, code = commit(run, { entry }, place)
  end
  if not ok and not OF_ITEM[code] then stop_at(run, entry, message) end
  if not ok then
    refuse(run, entry.place, message)
    check(commit(run, {}, place))
  end
end

-- Commits a batch, or, if it is refused as a whole, its items one by one. While
-- we wait for room it is halved instead, until there is room for a part: the
-- queue may have none for the whole, now or ever.
local function commit_batch(run, batch, place)
  local ok, message, code = commit(run, batch, place)
  if ok then return end
  if code ~= "FULL" and not OF_ITEM[code] then arguments.fail(message) end
  if #batch > 1 and waits_for_room(run, code) then
    local half = math.floor(#batch / 2)
    local front, back = {}, {}
    for k, entry in ipairs(batch) do
      table.insert(k <= half and front or back, entry)
    end
    commit_batch(run, front, front[half].place)
    return commit_batch(run, back, place)
  end
  for k, entry in ipairs(batch) do
    commit_one(run, entry, k == #batch and place or entry.place)
  end
end

-- Counts of lines that were not pushed, for the progress line.
local function asides(run)
  local list = {}
  if run.ignored > 0 then list[1] = ("%d ignored"):format(run.ignored) end
  if run.bad > 0 then list[#list + 1] = ("%d bad"):format(run.bad) end
  return list[1] and table.concat(list, ", ") or nil
end

local function flush(run)
  local batch, place = run.batch, run.place
  run.batch, run.bytes = {}, 0
  if place == run.kept then return end
  commit_batch(run, batch, place)
  run.kept = place
  run.progress:update(run.pushed, place.stop - run.from, asides(run))
end


-- Reading.

local function is_blank(run, record)
  return run.format == "json" and record.bytes
    and not record.bytes:find "[^ \t\r]"
end

-- The rest of a line that was pushed when the input ended in it: nothing but
-- its end, as a rule.
local function is_rest(run, record)
  local of = run.rest_of
  run.rest_of = nil
  if not of or not record.bytes then return false end
  if record.bytes:find(run.format == "raw" and "." or "[^ \t\r]") then
    refuse(run, record, "it went on after its beginning had been pushed, when "
      .. "the input ended there")
  end
  return true
end

-- Whether a record at the end of the input may be the beginning of a longer
-- one: brackets and quotes would have been closed.
local function may_go_on(run, record)
  local o = run.args
  return record.open and not o.whole and (o.resume or o.restart)
    and not (run.format == "json" and record.bytes:find "[%]}\"][ \t\r]*$")
end

local function leave(run, record)
  run.progress:clear()
  run.io.stderr:write(("respool: %s %d is left, as no newline ends it: it may "
    .. "go on (--whole pushes it)\n"):format(run.noun, record.number))
end

-- The body and key of a record that is to be pushed.
local function take_record(run, record)
  if is_blank(run, record) then return nil end
  local body, key = read_record(run, record)
  if body and may_go_on(run, record) then
    leave(run, record)
    return nil
  end
  if body then return body, key end
  refuse(run, record, record.open and key .. " (the input ends in it)" or key)
end

-- Takes a record into the batch. At the very end of the input the place stays
-- before one that is not pushed: it may not have been written to its end.
local function add(run, record)
  local body, key
  if not is_rest(run, record) then body, key = take_record(run, record) end
  if record.open and not body then return end
  run.place = record
  record.bytes = nil
  if body then
    run.batch[#run.batch + 1] = { body = body, key = key, place = record }
    run.bytes = run.bytes + #body
  end
end

local function read_all(run)
  local more
  repeat
    local record
    record, more = run.records:next(#run.batch > 0 and PATIENCE or -1)
    if record then add(run, record) end
    if not record or #run.batch >= run.args.batch or run.bytes >= BYTES then
      flush(run)
    end
  until not record and not more or records.is_stopped()
  flush(run)
end


-- Beginning.

local function open_input(io, args)
  if args.file == "-" then return io.stdin, "stdin" end
  local file, message = io.open(args.file, "rb")
  if not file then arguments.misuse("cannot open " .. message) end
  return file, args.file
end

-- The name of the note of an input; nil when its place is not kept. That of a
-- file always is, as nobody knows beforehand that a push will be cut off.
local function input_name(run)
  local args = run.args
  if args.file == "-" or not run.records:size() then
    local kept = args.resume or args.restart
    return kept and ("%s\0%s"):format(args.queue, args.file) or nil
  end
  return ("%s\0%s"):format(args.queue,
    (check(core.input.whole_path(args.file))))
end

local function go_on(run)
  local place = notes.get(run.store, "push", run.name)
  if not place then return end
  if not run.records:go_to(place) then
    arguments.fail(("%s is not what was pushed before: it differs at %s %d; "
      .. "--restart begins at its beginning"):format(run.records.name, run.noun,
      place.number))
  end
  run.place, run.kept, run.from = place, place, place.stop
  if place.open then
    run.rest_of, run.records.number = place, place.number - 1
  end
end

local function check_options(args)
  if args.raw and args.key then
    arguments.misuse("--key needs payloads that are JSON or CBOR, not --raw")
  elseif args.whole and not (args.resume or args.restart) then
    arguments.misuse("--whole is for --resume and --restart")
  end
end

local function new_run(args, io)
  local file, name = open_input(io, args)
  local format = args.raw and "raw" or args.cbor and "cbor" or "json"
  local store = arguments.open(io, args.store, { create = true })
  local queue = check(store:queue(args.queue, {
    codec = codec.encoded_as(args.raw and "raw" or "cbor"),
  }))
  local config = check(queue:config())
  local run = {
    args = args, io = io, store = store, queue = queue, format = format,
    decode = DECODERS[format], noun = args.cbor and "value" or "line",
    records = records.new(file, name, args.cbor and "sequence" or "lines",
                          args.max_line),
    options = {
      priority = args.priority, delay = args.delay, ttl = args.ttl,
      partition = args.partition,
    },
    waits = config.overflow == "wait" and config.max_items > 0,
    batch = {}, bytes = 0, pushed = 0, ignored = 0, bad = 0, from = 0,
  }
  run.name = input_name(run)
  return run
end

local function show_progress(run)
  local size = run.records:size()
  run.progress = progress.new(run.io, {
    noun = run.noun, total = size and size - run.from,
  })
end

local function summary(run)
  local p = run.progress
  p.n = run.pushed
  if p.shown then
    p:clear()
    run.io.stderr:write(("%s pushed%s in %s, %s/s\n"):format(
      output.count(run.pushed, run.noun),
      run.ignored > 0 and (" (%s ignored: the key is in use)"):format(
        output.number(run.ignored)) or "",
      output.duration(p:elapsed()), output.short(p:rate())))
  end
  if run.bad > 0 then
    run.io.stderr:write(("respool: %s of %s not pushed\n"):format(
      output.number(run.bad),
      output.count(run.pushed + run.ignored + run.bad, run.noun)))
  end
end

local STOPPED = 130

function M.run(args, io)
  check_options(args)
  args.file = args.file or "-"
  core.process.watch(true)
  local run = new_run(args, io)
  if args.resume then go_on(run) end
  show_progress(run)
  read_all(run)
  summary(run)
  if records.is_stopped() then
    arguments.fail(("stopped behind %s %d%s"):format(run.noun,
      run.kept and run.kept.number or 0,
      run.name and "; --resume goes on there" or ""), STOPPED)
  end
  return run.bad > 0 and 1 or 0
end

return M
