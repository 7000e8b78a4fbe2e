-- SPDX-License-Identifier: MIT
--
-- Exports: dead letters of a DLQ, or items of a queue, given batch by batch to
-- a writer of the user's. They are copied, or with `remove` moved: then the
-- records that the writer has accepted are removed, and no others. A crash in
-- between leaves a record in both places, never in none.
--
-- Damaged records are counted. A dead letter is copied with the bytes there
-- are and `damaged`, but not moved: nobody could make an item of it again. An
-- item is not copied; one that a move meets becomes a dead letter, of which
-- the queue's on_dead tells.

local codec = require "respool.support.codec"
local compat = require "respool.support.compat"
local options = require "respool.support.options"
local outcome = require "respool.support.outcome"
local pages = require "respool.support.pages"
local source_of = require "respool.transfer.source"
local timing = require "respool.support.timing"

local huge, min = math.huge, math.min

local M = {}

-- A writer is a function, or an object whose write() is called as a method.
-- It is given a list of records with a `source`, and says how it went as
-- handlers do: returning is accepting; raising, or returning nil or false and
-- why, ends the export. A writer that needs longer returns how many it has
-- accepted by now, counted from the first one not accepted yet.
---@class respool.writer
---@field begin (fun(self: respool.writer, source: respool.record_source))?
--- called before anything is read, also when there is nothing
---@field write fun(self: respool.writer, batch: table): ...
---@field patience number? seconds for which it may keep a batch; of
--- items that are moved 10 when not given, 300 at most: then it is flushed
---@field flush (fun(self: respool.writer): ...)? accepts all it was given
---@field stored boolean? it needs the stored bytes only: a payload is these,
--- headers are `header_bytes`, and there is an origin where it is another's
---@field due (fun(self: respool.writer): boolean)? wants to be flushed
---@field known (fun(self: respool.writer, source: table,
--- from: respool.record_source): function, any[])? asked when moving: tells
--- records that it accepted before; second, tickets of those that are still
--- there

---@class respool.export_options
---@field store respool.store? of a dlq given by name
---@field dlq string|respool.dead? the dead letters to export; or
---@field queue respool.queue? the queue whose items to export
---@field codec any? of the dead letters of a DLQ given by name
---@field group string? of dead letters
---@field limit integer? records at most
---@field remove boolean? moves what the writer has accepted
---@field follow boolean? goes on with new records until it is stopped
---@field batch integer? records in a batch at most; 500, and 4 MiB of payloads
---@field bytes integer|string? of payloads: the record that brings a batch to
--- so many ends it; 4 MiB
---@field interval number? seconds that a batch may wait for more; 0
---@field writer respool.writer|function is given the records
---@field on_progress fun(counts: respool.export_counts): any? false stops

---@class respool.export_counts
---@field total integer records there were at the beginning
---@field read integer
---@field written integer accepted by the writer
---@field removed integer
---@field known integer removed, as they had been written by an earlier export
---@field lost integer written, but not removed: dead letters that somebody else
--- took meanwhile, items that others took
---@field damaged integer dead letters copied as mere bytes or not moved, items
--- not copied
---@field damaged_numbers integer[] the first hundred of these
---@field batches integer

local function has_write(value)
  return type(value) == "table" and type(value.write) == "function"
end

local function writer(value)
  if type(value) == "function" then
    return { write = function(_, batch) return value(batch) end }
  end
  if has_write(value) then return value end
  return nil, "a function or a table with a function 'write'"
end

local function dlq(value)
  return options.name(value) or options.dead(value),
    "the name of a DLQ, or dead letters such as queue.dead"
end

local FORM = {
  of = "respool.export",
  store = options.store, dlq = dlq, queue = options.queue, codec = codec.kind,
  group = options.group, limit = options.whole(1, huge),
  remove = options.boolean, follow = options.boolean,
  batch = options.whole(1, 2^31), bytes = options.size,
  interval = options.seconds,
  writer = writer, on_progress = options.callable,
}

local BATCH, SLICE = 500, 0.05

local function check(o)
  options.need(FORM, o, "writer")
  if (o.dlq == nil) == (o.queue == nil) then
    compat.misuse "respool.export: either a 'dlq' or a 'queue' is needed"
  elseif type(o.dlq) == "string" and not o.store then
    compat.misuse "respool.export: a 'dlq' by name needs its 'store'"
  elseif o.queue and o.group then
    compat.misuse "respool.export: option 'group' is for dead letters"
  elseif o.queue and o.follow and not o.remove then
    compat.misuse "respool.export: of a queue, 'follow' needs 'remove'"
  end
end

local function open_source(o)
  if o.queue then return source_of.items(o.queue, o, o.writer.patience) end
  local dead = o.dlq
  if type(dead) == "string" then
    dead = o.store:dead(dead, { codec = o.codec })
  end
  return source_of.dead_letters(dead, o)
end


-- The records that the writer has: `pending` are the tickets of those that it
-- has not accepted.

local function fail(message, code)
  return nil, message, code or "IO"
end

-- Removes the first n pending records.
local function accept(d, n)
  local counts, pending = d.counts, d.pending
  if n == 0 then return true end -- nothing changes, however much is pending
  counts.written = counts.written + n
  local accepted, rest = {}, {}
  for i, ticket in ipairs(pending) do
    table.insert(i <= n and accepted or rest, ticket)
  end
  d.pending = rest
  if not d.o.remove then return true end
  local removed, message, code = d.source:remove(accepted)
  if not removed then return nil, message, code end
  counts.removed = counts.removed + removed
  counts.lost = counts.lost + n - removed
  return true
end

-- Calls a method of the writer; how many records are accepted now.
local function ask(d, method, batch)
  local w = d.o.writer
  local ok, first, message, code = compat.pcall(w[method], w, batch)
  if not ok then return fail(outcome.describe(first).text) end
  if type(first) == "number" then return min(first, #d.pending) end
  if outcome.is_done(first, message) then return #d.pending end
  return fail(outcome.describe(message or "the writer refused").text, code)
end

local function hand_over(d)
  local batch = d.batch
  if #batch == 0 then return true end
  batch.source = d.from
  d.batch, d.bytes, d.since = {}, 0, nil
  for _, record in ipairs(batch) do
    d.pending[#d.pending + 1] = d.source:ticket(record)
  end
  d.counts.batches = d.counts.batches + 1
  local n, message, code = ask(d, "write", batch)
  if not n then return nil, message, code end
  return accept(d, n)
end

local function flush(d)
  local ok, message, code = hand_over(d)
  if not ok then return nil, message, code end
  if #d.pending == 0 then return true end
  if not d.o.writer.flush then
    return fail "the writer has not accepted all, and has no function 'flush'"
  end
  local n
  n, message, code = ask(d, "flush")
  if not n then return nil, message, code end
  if n < #d.pending then return fail "the writer has not accepted all" end
  return accept(d, n)
end


-- The loop.

-- Of records the ones that an earlier export has not written. It may have been
-- killed before it removed them, while somebody else held them.
local function drop_known(d, records)
  if not d.known then return records end
  local fresh, known = {}, {}
  for _, record in ipairs(records) do
    if d.known(record) then
      table.insert(known, d.source:ticket(record))
    else
      table.insert(fresh, record)
    end
  end
  if #known == 0 then return fresh end
  local removed, message, code = d.source:remove(known)
  if not removed then return nil, message, code end
  d.counts.known = d.counts.known + removed
  return fresh
end

local NAMED = 100

-- Counts damaged records, and takes them out of those to be moved.
local function drop_damaged(d, records)
  local counts, named = d.counts, d.counts.damaged_numbers
  for _, number in ipairs(records.damaged or {}) do
    counts.damaged = counts.damaged + 1
    if #named < NAMED then named[#named + 1] = number end
  end
  if not d.o.remove then return records end
  local whole = {}
  for _, record in ipairs(records) do
    if not record.damaged then whole[#whole + 1] = record end
  end
  return whole
end

local function gather(d)
  local o = d.o
  local room = min((o.batch or BATCH) - #d.batch,
                   (o.limit or huge) - d.counts.read)
  if room <= 0 then return 0 end
  local records, message, code = d.source:next(room)
  if not records then return nil, message, code end
  local n = #records
  records, message, code = drop_known(d, drop_damaged(d, records))
  if not records then return nil, message, code end
  d.counts.read = d.counts.read + #records
  local ok = true
  for _, record in ipairs(records) do
    d.since = d.since or d.store:now()
    d.batch[#d.batch + 1] = record
    d.bytes = d.bytes + #record.bytes
    if ok and d.bytes >= (d.o.bytes or pages.BYTES) then
      ok, message, code = hand_over(d)
    end
  end
  if not ok then return nil, message, code end
  return n
end

local function has_waited(d)
  return not d.o.follow
    or d.since and d.store:now() - d.since >= (d.o.interval or 0)
end

-- Hands over batches that are full or have waited; flushes when due.
local function pass_on(d, n)
  local ok, message, code = true, nil, nil
  local full = #d.batch >= (d.o.batch or BATCH)
  if full or n == 0 and has_waited(d) then
    ok, message, code = hand_over(d)
  end
  local due = d.o.writer.due
  if ok and #d.pending > 0
     and (d.source:is_late() or due and due(d.o.writer)) then
    ok, message, code = flush(d)
  end
  return ok, message, code
end

local function wait(d)
  local slice = d.store.manual and (d.o.interval or 1) or SLICE
  return d.store.handle:sleep(min(slice, timing.slice(d.store)))
end

local function is_stopped(d)
  if d.counts.read >= (d.o.limit or huge) then return true end
  if d.o.follow and timing.is_ending() then return true end
  local hook = d.o.on_progress
  return hook ~= nil and hook(d.counts) == false
end

-- With nothing more to read: whether to look again.
local function idle(d)
  if d.o.follow then return wait(d) end
  if #d.pending == 0 and #d.batch == 0 then return false end
  return flush(d) -- what is leased may have held back more
end

local function step(d)
  local n, message, code = gather(d)
  if not n then return nil, message, code end
  local ok
  ok, message, code = pass_on(d, n)
  if not ok then return nil, message, code end
  if is_stopped(d) then return false end
  if n == 0 then return idle(d) end
  return true
end

local function run(d)
  local more, message, code
  repeat more, message, code = step(d) until not more
  if more == nil then return nil, message, code end
  return flush(d)
end

local function new_export(o, source, from)
  return {
    o = o, source = source, store = source.store, from = from,
    batch = {}, bytes = 0, pending = {},
    counts = {
      total = source.total, read = 0, written = 0, removed = 0, known = 0,
      lost = 0, damaged = 0, damaged_numbers = {}, batches = 0,
    },
  }
end

-- The source of records, by which import() distinguishes them.
---@class respool.record_source
---@field store string id of the store
---@field kind "dead_letters"|"items"
---@field name string of the DLQ, or the queue
---@field codec string name of the codec of the DLQ's or queue's handle
---@field moved boolean whether they are removed once they are accepted

local function describe(source, o)
  local stats, message, code = source.store:stats()
  if not stats then return nil, message, code end
  return {
    store = stats.id, kind = source.kind, name = source.name,
    codec = source.codec.name, moved = o.remove == true,
  }
end

-- Removes the records that an earlier export wrote before it was killed.
local function remove_known(d, tickets)
  local removed, message, code = d.source:remove(tickets)
  if not removed then return nil, message, code end
  d.counts.known = d.counts.known + removed
  return d
end

local function begin(o, source)
  local from, message, code = describe(source, o)
  if not from then return nil, message, code end
  local d = new_export(o, source, from)
  if not o.remove or not o.writer.known then return d end
  local tickets
  d.known, tickets, code = o.writer:known(source, from)
  if not d.known then return nil, tickets, code end
  return remove_known(d, tickets)
end

-- Gives the writer the source of its records.
local function introduce(d)
  local w = d.o.writer
  if not w.begin then return true end
  local ok, problem = compat.pcall(w.begin, w, d.from)
  if ok then return true end
  return fail(outcome.describe(problem).text)
end

local function export(o, source)
  local d, message, code = begin(o, source)
  if not d then return nil, message, code end
  local ok
  ok, message, code = introduce(d)
  if ok then ok, message, code = run(d) end
  if not ok then return nil, message, code, d.counts end
  return d.counts
end

-- Exports a DLQ or a queue. Returns counts; after an error the fourth value
-- counts what was done before: everything that was accepted has been removed,
-- if it was to be.
---@param given respool.export_options
---@return respool.export_counts?, string?, string?, respool.export_counts?
---@nodiscard
function M.export(given)
  local o = options.read(FORM, given, 1)
  check(o)
  local source, message, code = open_source(o)
  if not source then return nil, message, code end
  local function leave(...)
    local closed, why, which = source:close()
    if closed or not (...) then return ... end
    return nil, why, which, (...)
  end
  return leave(compat.guard(function()
    return export(o, source)
  end, nil, leave))
end

return M
