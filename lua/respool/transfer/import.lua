-- SPDX-License-Identifier: MIT
--
-- Importing: records that an export wrote are pushed again, batch by batch as a
-- reader gives them, each batch in one commit that also notes whose records
-- they were: see respool/imported.lua. Killed at any point and begun again, it
-- pushes each record once. A record that cannot be pushed is reported, and what
-- is behind it is pushed all the same.
--
-- A record becomes a new item with its payload, payload version, headers, key
-- and priority, and the due and expiry times of an item. Its past does not
-- come back: attempts, errors, history, and the payload before a transform.

local archive = require "respool.transfer.format"
local compat = require "respool.support.compat"
local imported = require "respool.transfer.import_log"
local options = require "respool.support.options"
local outcome = require "respool.support.outcome"
local pace = require "respool.transfer.pace"
local push = require "respool.produce.push"
local record_of = require "respool.transfer.record"

local M = {}

-- A reader is a function, or an object whose read() is called as a method. It
-- returns a list of records; nil at the end; or nil and what is wrong. A list
-- with the `source` of the batch that was exported is pushed once; without,
-- what it holds is new each time.
---@class respool.reader
---@field read fun(self: respool.reader): table?, string?, string?
---@field accepted (fun(self: respool.reader, batch: table,
--- failed: integer): ...)? the batch is on disk, but for records that failed;
--- raising, or returning nil or false and why, ends the import

---@class respool.import_options
---@field to respool.queue the queue to push to
---@field reader respool.reader|function gives the records
---@field again boolean? pushes also what has been imported before
---@field as_stored boolean? payloads may be of another codec than the queue's
---@field on_conflict "fail"|"ignore"|"replace"? of a key that is held; "fail"
---@field rate number? records a second at most, at an even pace
---@field while_below number? pauses while the target is fuller than that
--- share of its max_items or max_queue_bytes, and waits for room
---@field interval respool.seconds? asks the reader again so long after its end,
--- until on_progress says no; a reader that fails ends it
---@field on_progress fun(counts: respool.import_counts): any? false stops

---@class respool.import_counts
---@field read integer
---@field pushed integer
---@field ignored integer their key was held, and on_conflict is "ignore"
---@field known integer imported before
---@field failed integer
---@field errors string[] the first few of the failures

local function reader(value)
  if type(value) == "function" then return { read = value } end
  if type(value) == "table" and type(value.read) == "function" then
    return value
  end
  return nil, "a function or a table with a function 'read'"
end

local FORM = {
  of = "respool.import", to = options.queue, reader = reader,
  again = options.boolean, as_stored = options.boolean,
  on_conflict = push.form.on_conflict, on_progress = options.callable,
  interval = options.positive_seconds,
  rate = options.rate,
  while_below = options.share,
}

local ERRORS = 10


-- A batch of entries { record, at, push, known, print }: `at` is the number of
-- the record among all that were read, `push` as record.plan() makes it,
-- `print` that of a record that can be distinguished from others.

local function fail(r, record, at, message)
  local counts = r.counts
  counts.failed, r.failed = counts.failed + 1, r.failed + 1
  if #counts.errors >= ERRORS then return end
  table.insert(counts.errors, ("%s: %s"):format(
    record_of.name(record, at), message))
end

-- Whether a record can be distinguished from others.
local function is_marked(r, record)
  return r.imported and type(record.number or record.id) == "number"
    and type(record.pushed_at) == "number"
end

-- The entry of a record that can be pushed, or nil and why it cannot be.
local function entry_of(r, record, known, print)
  if r.no_partitions and record.partition then return nil, r.no_partitions end
  local ok, planned = compat.pcall(record_of.plan, r.o.to, record,
                                   r.o.on_conflict)
  if not ok then return nil, outcome.describe(planned).text end
  return {
    record = record, at = r.counts.read, push = planned, known = known,
    print = print,
  }
end

-- Adds a record, if it is to be pushed.
local function plan_record(r, record, planned)
  local sound, problem = compat.pcall(record_of.check, record)
  if not sound then
    fail(r, record, r.counts.read, outcome.describe(problem).text)
    return true
  end
  local print = is_marked(r, record) and archive.print(record) or nil
  local known, message, code = false, nil, nil
  if print then known, message, code = r.imported:has(record, print) end
  if known == nil then return nil, message, code end
  if known and not r.o.again then
    r.counts.known = r.counts.known + 1
    return true
  end
  local entry, why = entry_of(r, record, known, print)
  if entry then
    planned[#planned + 1] = entry
  else
    fail(r, record, r.counts.read, why)
  end
  return true
end

-- The records that are to be pushed.
local function plan_batch(r, batch)
  local planned = {}
  for _, record in ipairs(batch) do
    r.counts.read = r.counts.read + 1
    local ok, message, code = plan_record(r, record, planned)
    if not ok then return nil, message, code end
  end
  return planned
end

local function has_fields_of(a, b)
  for name, value in pairs(b) do
    if a[name] ~= value then return false end
  end
  return true
end

-- Whether an entry may be pushed by the same step as the one before it.
local function is_alike(a, b)
  if not a or a.record.key or b.record.key then return false end
  local of, with = a.push, b.push
  return of.codec == with.codec and has_fields_of(of.options, with.options)
    and has_fields_of(with.options, of.options)
end

-- Adds entries to a transaction, those alike by one step.
local function add(r, tx, entries)
  local i = 1
  while i <= #entries do
    local first, bodies, origins = entries[i], {}, {}
    repeat
      bodies[#bodies + 1] = entries[i].push.bytes
      origins[#bodies] = entries[i].push.origin
      i = i + 1
    until not entries[i] or not is_alike(first, entries[i])
    local step, message, code = tx:push(
      r.o.to.handle, bodies, first.push.codec, first.push.options, origins)
    if not step then return nil, message, code end
    first.step = step
  end
  return true
end

local function note(r, entries)
  for _, e in ipairs(entries) do
    local ok, message, code = true, nil, nil
    if e.print then
      ok, message, code = r.imported:note(e.record, e.print)
    end
    if not ok then return nil, message, code end
  end
  return true
end

local function transact(r, entries)
  local ok, message, code = note(r, entries)
  if not ok then return nil, message, code end
  local tx
  tx, message, code = r.store.handle:begin()
  if not tx then return nil, message, code end
  ok, message, code = add(r, tx, entries)
  if ok and r.imported then ok, message, code = r.imported:add(tx) end
  if ok then ok, message, code = tx:commit() end
  for _, e in ipairs(ok and entries or {}) do
    e.ignored = e.record.key ~= nil and tx:held(e.step)
  end
  tx:close()
  return ok, message, code
end

-- Marks ignored records as not imported, if they were not before. Whether there
-- is any.
local function forget(r, entries)
  local any = false
  for _, e in ipairs(entries) do
    if e.ignored and not e.known and e.print then
      local ok, message, code = r.imported:forget(e.record)
      if not ok then return nil, message, code end
      any = true
    end
  end
  return any
end

-- That a key is held shows in the commit that also notes its record: the note
-- is taken back by another.
local function take_back(r, entries)
  local any, message, code = forget(r, entries)
  if not any then return any == false, message, code end
  local tx, ok
  tx, message, code = r.store.handle:begin()
  if not tx then return nil, message, code end
  ok, message, code = r.imported:add(tx)
  if ok then ok, message, code = tx:commit() end
  tx:close()
  r.imported:committed(not ok)
  return ok, message, code
end

local function count(r, entries)
  local ignored = 0
  for _, e in ipairs(entries) do
    if e.ignored then ignored = ignored + 1 end
  end
  r.counts.ignored = r.counts.ignored + ignored
  r.counts.pushed = r.counts.pushed + #entries - ignored
end

-- Pushes entries in one commit, with the note of it.
local function commit(r, entries)
  if #entries == 0 then return true end
  local ok, message, code = transact(r, entries)
  if r.imported then r.imported:committed(not ok) end
  if not ok then return nil, message, code end
  count(r, entries)
  return take_back(r, entries)
end

local carry_out

-- Errors of one record, not of the store.
local OF_RECORD = { EXISTS = true, TOO_LARGE = true }

-- Pushes entries; when one of them cannot be, in halves, until it is found.
function carry_out(r, entries)
  local ok, message, code = commit(r, entries)
  if ok or not OF_RECORD[code] then return ok, message, code end
  if #entries == 1 then
    fail(r, entries[1].record, entries[1].at, message)
    return true
  end
  local halves, middle = { {}, {} }, math.floor(#entries / 2)
  for i, e in ipairs(entries) do
    table.insert(halves[i <= middle and 1 or 2], e)
  end
  ok, message, code = carry_out(r, halves[1])
  if ok then ok, message, code = carry_out(r, halves[2]) end
  return ok, message, code
end


-- Pushing as fast as the pace and the room allow.

-- Pushes entries that are due; where there is no room for all of them, in
-- halves, and one by one as room comes.
local function push_as_room_comes(r, entries)
  local ok, message, code = carry_out(r, entries)
  while code == "FULL" and r.o.while_below do
    if #entries > 1 then
      local middle = math.floor(#entries / 2)
      ok, message, code = push_as_room_comes(
        r, { compat.unpack(entries, 1, middle) })
      if not ok then return ok, message, code end
      return push_as_room_comes(
        r, { compat.unpack(entries, middle + 1, #entries) })
    end
    ok, message, code = pace.wait_for_room(r)
    if not ok then return ok, message, code end
    ok, message, code = carry_out(r, entries)
  end
  return ok, message, code
end

-- Pushes the entries of a batch, page by page where there is a rate. False:
-- the import is to stop.
local function push_entries(r, entries)
  local size = pace.page(r.o.rate, #entries)
  for i = 1, #entries, size do
    local chunk = { compat.unpack(entries, i, math.min(i + size - 1,
                                                       #entries)) }
    local ok, message, code = pace.wait(r, #chunk)
    if ok then ok, message, code = push_as_room_comes(r, chunk) end
    if not ok then return ok, message, code end
  end
  return true
end


-- The loop.

local function check_codec(r, source)
  local own = r.o.to.codec.name
  if r.o.as_stored or not source.codec or source.codec == own then
    return true
  end
  return nil, ("the payloads are of codec '%s', those of queue '%s' of '%s'")
    :format(source.codec, r.o.to.name, own), "VERSION"
end

local function is_same(a, b)
  return a and a.store == b.store and a.kind == b.kind
    and a.name == b.name
end

local function check_source(source)
  local ok = type(source) == "table"
  for _, name in ipairs { "store", "kind", "name" } do
    ok = ok and type(source[name]) == "string"
  end
  if not ok then
    compat.misuse("respool.import: the 'source' that the reader returned is "
      .. "none that respool.export gave")
  end
end

-- Loads which records of a source were pushed before.
local function meet(r, source)
  if source == nil then
    r.imported, r.source = nil, nil
    return true
  end
  check_source(source)
  local ok, message, code = check_codec(r, source)
  if not ok then return nil, message, code end
  if is_same(r.source, source) then return true end
  r.imported, r.source = imported.open(r.o.to, source), source
  return true
end

-- Calls the reader for batches that are on disk.
local function tell_reader(r, batch)
  local from = r.o.reader
  local ok, first, message, code =
    compat.pcall(from.accepted, from, batch, r.failed)
  if not ok then return nil, outcome.describe(first).text, "IO" end
  if outcome.is_done(first, message) then return true end
  return nil, outcome.describe(message or "the reader refused").text,
    code or "IO"
end

local function import_batch(r, batch)
  r.failed = 0
  local ok, message, code = true, nil, nil
  if #batch > 0 then ok, message, code = meet(r, batch.source) end
  if not ok then return nil, message, code end
  local planned
  planned, message, code = plan_batch(r, batch)
  if not planned then return nil, message, code end
  ok, message, code = push_entries(r, planned)
  if not ok then return ok, message, code end
  if not r.o.reader.accepted then return true end
  ok, message, code = r.store.handle:flush()
  if not ok then return nil, message, code end
  return tell_reader(r, batch)
end

local function read(r)
  local ok, batch, message, code = compat.pcall(r.o.reader.read, r.o.reader)
  if not ok then return nil, outcome.describe(batch).text, "IO" end
  if not batch and message ~= nil then
    return nil, outcome.describe(message).text, code or "IO"
  end
  if batch ~= nil and type(batch) ~= "table" then
    compat.misuse(("respool.import: the reader returned a %s, not a list of "
      .. "records"):format(type(batch)))
  end
  return batch
end

local function run(r)
  local hook = r.o.on_progress
  while true do
    local batch, message, code = read(r)
    if not batch then
      if message then return nil, message, code, r.counts end
      if not r.o.interval then return r.counts end
    end
    local ok
    if batch then
      ok, message, code = import_batch(r, batch)
    else
      ok, message, code = pace.pause(r, r.o.interval)
    end
    if ok == false then return r.counts end -- stopped
    if not ok then return nil, message, code, r.counts end
    if hook and hook(r.counts) == false then return r.counts end
  end
end

-- Imports the records of a reader into a queue. Returns counts; after an error
-- the fourth value counts what was done before, and is on disk.
---@param given respool.import_options
---@return respool.import_counts?, string?, string?, respool.import_counts?
---@nodiscard
function M.import(given)
  local o = options.read(FORM, given, 1)
  options.need(FORM, o, "to", "reader")
  local no_partitions, message, code = push.no_partitions(o.to)
  if no_partitions == nil then return nil, message, code end
  local lock
  lock, message, code = imported.lock(o.to.store)
  if not lock then return nil, message, code end
  local r = {
    o = o, store = o.to.store, failed = 0, no_partitions = no_partitions,
    counts = {
      read = 0, pushed = 0, ignored = 0, known = 0, failed = 0, errors = {},
    },
  }
  local function leave(...)
    lock:unlock()
    return ...
  end
  return leave(compat.guard(run, r, leave))
end

return M
