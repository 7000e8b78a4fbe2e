-- SPDX-License-Identifier: MIT
--
-- respool health: the health of a store, which is also the exit status.

local arguments = require "respool.cli.base.arguments"
local core = require "respool.core"
local location = require "respool.support.location"
local queue_stats = require "respool.observe.stats"
local output = require "respool.cli.base.output"
local show = require "respool.cli.base.show"
local store_of = require "respool.store"

local M = { summary = "show a store's health" }

local STATUS = { healthy = 0, degraded = 1, unhealthy = 2 }

function M.options(command)
  arguments.add_store(command)
  command:option("--watch", "Measure the error rate over so long.")
    :argname "DURATION":convert(arguments.duration)
  command:option("--queue", "Judge only this queue, beside the storage.")
    :argname "QUEUE":convert(arguments.name)
  command:option("--max-oldest", "Unhealthy when an item is ready for longer.")
    :argname "DURATION":convert(arguments.duration)
  command:option("--max-dead", "Unhealthy when a queue has more dead letters.")
    :argname "N":convert(arguments.whole(0))
  command:option("--max-ready", "Unhealthy when more items of a queue are "
    .. "ready."):argname "N":convert(arguments.whole(0))
  command:option("--max-error-rate", "Unhealthy when a greater share of the "
    .. "outcomes of a queue are failures, such as 0.1, while --watch looks.")
    :argname "SHARE":convert(arguments.positive)
  command:flag("--probe", "Also write a small record, flushed to disk.")
  output.add_json(command)
  command:epilog [[
The exit status is 0 when it is healthy, 1 degraded, 2 unhealthy; a store that
cannot be opened is unhealthy. Without bounds a queue is degraded when an item
is ready for an hour, when a tenth of the items that ended are dead letters, and
when it is 80% full. Pushes that other processes were refused are theirs to
tell; a full disk is seen by all.

Example:
  respool health shop.respool --watch 10s || page-somebody]]
end

-- The bounds asked for: beyond them all is unhealthy.
local function bounds(args)
  local o = { queue = args.queue }
  for name, most in pairs {
    oldest_age = args.max_oldest or false, dead = args.max_dead or false,
    ready = args.max_ready or false, error_rate = args.max_error_rate or false,
  } do
    o[name] = most and { degraded = most, unhealthy = most } or nil
  end
  return o
end

-- A write that waits for a lock would keep the command from ending.
local function abandon_waiting(store)
  if store.probe then store.handle:abandon() end
end

-- Opens the store. A database that can only be read, such as a standby, is not
-- healthy: no push would succeed.
local function open(args)
  local writes = args.probe or location.is_database(args.store)
  local store, message, code = store_of.open(args.store, {
    create = false, read_only = not writes,
  })
  if not store or args.probe or not writes then return store, message, code end
  store:close()
  return store_of.open(args.store, { create = false, read_only = true })
end

local function health_of(args, io)
  local store, message, code = open(args)
  if not store then
    local failed = { status = "unhealthy", error = message, code = code }
    return { status = "unhealthy",
             components = { storage = failed, queues = {} } }
  end
  io.stores[#io.stores + 1] = store
  local o = bounds(args)
  if args.watch then
    store:health(o)
    core.process.nap(args.watch)
  end
  local health = store:health(o)
  abandon_waiting(store)
  return health
end


-- For people.

local function percent(n)
  return n and ("%.0f%%"):format(n * 100)
end

local function storage_note(s)
  if s.error then return s.error end
  local wrote = s.write_seconds
    and ("written in %s, "):format(output.duration(s.write_seconds)) or ""
  local fill = s.store_fill and (", %s full"):format(percent(s.store_fill))
  return ("%sread in %s%s"):format(
    wrote, output.duration(s.read_seconds), fill or "")
end

local function vacuum_note(v)
  local held = v.snapshot_age > 0 and (", a snapshot has been held for %s")
    :format(output.duration(v.snapshot_age)) or ""
  return ("%s%s"):format(output.count(v.dead_rows, "dead row"), held)
end

local function queue_note(q)
  local notes = { ("%s ready"):format(output.number(q.ready)) }
  local function add(format, value)
    if value then notes[#notes + 1] = format:format(value) end
  end
  add("oldest %s", q.oldest_age > 0 and output.duration(q.oldest_age))
  add("%s full", percent(q.fill))
  add("%s of outcomes are failures", percent(q.error_rate))
  add("%s dead", q.dead > 0 and output.number(q.dead))
  add("%s pushes refused", q.refused > 0 and output.number(q.refused))
  if q.paused then notes[#notes + 1] = "paused" end
  add("held%s", q.held_until and (q.held_for
    and ": " .. output.clean(q.held_for) or ""))
  add("breaker %s", q.breaker and q.breaker:gsub("_", " "))
  return table.concat(notes, ", ")
end

local function worst_first(rows)
  local sorted = {}
  for status = 2, 0, -1 do
    for _, row in ipairs(rows) do
      if STATUS[row[2]] == status then sorted[#sorted + 1] = row end
    end
  end
  return sorted
end

local function rows_of(health)
  local parts = health.components
  local rows = { { "storage", parts.storage.status,
                   storage_note(parts.storage) } }
  if parts.readers then
    rows[2] = { "readers", parts.readers.status, ("%d of %d slots"):format(
      parts.readers.used, parts.readers.max) }
  elseif parts.vacuum then
    rows[2] = { "vacuum", parts.vacuum.status, vacuum_note(parts.vacuum) }
  end
  for _, name in ipairs(queue_stats.sorted(parts.queues)) do
    local q = parts.queues[name]
    rows[#rows + 1] = { "queue " .. name, q.status, queue_note(q) }
  end
  return worst_first(rows)
end

function M.run(args, io)
  if args.store == "" or args.store == ":memory:" then
    arguments.open(io, args.store, show.LOOK) -- says why not
  end
  local health = health_of(args, io)
  if args.json then
    output.json(io, health)
  else
    io.stdout:write(health.status, "\n\n")
    output.table(io, {
      { title = "PART" }, { title = "STATUS" }, { title = "" },
    }, rows_of(health))
  end
  return STATUS[health.status]
end

return M
