-- SPDX-License-Identifier: MIT
--
-- respool stats: the counters of a store, or those of a queue and its policy.

local arguments = require "respool.cli.base.arguments"
local core = require "respool.core"
local queue_stats = require "respool.observe.stats"
local output = require "respool.cli.base.output"
local show = require "respool.cli.base.show"

local huge = math.huge

local M = { summary = "show counters and settings" }

function M.options(command)
  arguments.add_store(command)
  command:argument("queue", "Show this queue, with its policy.")
    :argname "QUEUE":args "?":convert(arguments.name)
  output.add_json(command)
  command:epilog [[
Examples:
  respool stats shop.respool
  respool stats shop.respool mails]]
end


-- A store.

local COUNTERS = {
  "pushed", "delivered", "done", "retried", "died", "expired", "removed",
  "released", "snoozed", "crashed", "damaged",
}

local function show_counters(io, queues)
  local columns, rows = { { title = "QUEUE" } }, {}
  for i, name in ipairs(COUNTERS) do
    columns[i + 1] = { title = name:upper(), right = true }
  end
  for r, name in ipairs(queue_stats.sorted(queues)) do
    rows[r] = { name }
    for i, counter in ipairs(COUNTERS) do
      rows[r][i + 1] = output.number(queues[name][counter])
    end
  end
  if #rows == 0 then return end
  io.stdout:write "\n"
  output.table(io, columns, rows)
end

local function schedules_by_name(store)
  local by_name = {}
  for _, s in ipairs(arguments.check(store:schedules())) do
    by_name[s.name] = {
      next_at = s.next_at, last_at = s.last_at, fired = s.fired,
      missed_ticks = s.missed_ticks, paused = s.paused,
    }
  end
  return by_name
end

-- The workers of all queues, or of one.
local function workers_of(store, queue)
  local list = {}
  for _, w in ipairs(arguments.check(store:workers())) do
    if not queue or w.queue == queue then list[#list + 1] = w end
  end
  return core.cbor.array(list)
end

-- The figures of a store.
---@param s table as store:stats() gives it
---@return any[][]
function M.store_fields(s)
  if s.max_bytes == 0 then
    return {
      { "in use", output.bytes(s.used_bytes) },
      { "dead rows of items", output.number(s.dead_rows) },
      { "oldest snapshot", s.snapshot_age > 0
        and output.duration(s.snapshot_age) or "-" },
    }
  end
  return {
    { "file", output.bytes(s.file_bytes) },
    { "in use", output.bytes(s.used_bytes) },
    { "limit", output.bytes(s.max_bytes) },
    { "left on its disk", s.available_bytes < math.huge
      and output.bytes(s.available_bytes) or "-" },
    { "commits so far", output.number(s.last_txn) },
    { "reader slots", ("%d of %d"):format(s.readers, s.max_readers) },
    { "journal", ("%s, %s, flushed %s times"):format(
      output.count(s.journal_items, "item"), output.bytes(s.journal_bytes),
      output.number(s.journal_flushes)) },
  }
end

local function of_store(io, store, args)
  local s = arguments.check(store:stats())
  local queues = arguments.check(queue_stats.queues(store))
  if args.json then
    s.commits, s.commit_operations = nil, nil -- of this process: there are none
    return output.json(io, { store = s, queues = queues,
                             schedules = schedules_by_name(store),
                             workers = workers_of(store) })
  end
  output.fields(io, M.store_fields(s))
  show_counters(io, queues)
end


-- A queue.

-- The bound of a histogram below which the given part of its counts lies.
local function below(h, part)
  local seen = 0
  for _, bucket in ipairs(h.buckets) do
    seen = seen + bucket.count
    if seen >= h.count * part then return bucket.upto end
  end
  return huge
end

local function upto(seconds, h)
  if seconds < huge then return "≤ " .. output.duration(seconds) end
  return "> " .. output.duration(h.buckets[#h.buckets - 1].upto)
end

local function spread(h)
  if h.count == 0 then return nil end
  return ("mean %s, p50 %s, p95 %s"):format(
    output.duration(h.sum / h.count), upto(below(h, 0.5), h),
    upto(below(h, 0.95), h))
end

local STATES = { "ready", "leased", "scheduled", "retrying", "dead" }

local function state_fields(stats, now)
  local list = {}
  for i, name in ipairs(STATES) do
    list[i] = { name, output.number(stats[name]) }
  end
  list[#list + 1] = { "oldest", stats.oldest
    and output.duration(stats.oldest_age) }
  list[#list + 1] = { "next due", stats.next_due
    and "in " .. output.duration(stats.next_due - now) }
  list[#list + 1] = { "bytes", output.bytes(stats.bytes) }
  list[#list + 1] = { "full", stats.fill
    and ("%.0f%%"):format(stats.fill * 100) or "no limit" }
  list[#list + 1] = { "paused", stats.paused and "yes" or "no" }
  list[#list + 1] = { "held", stats.held_until
    and output.duration(stats.held_until - now) .. (stats.held_for
      and ": " .. output.clean(stats.held_for) or "") }
  return list
end

-- The figures of a rate and a breaker, where there is one.
local function flow_fields(stats, now)
  local list = {}
  if stats.allowed then
    list[1] = { "allowed now", output.number(stats.allowed) }
  end
  if stats.opened + stats.outages > 0 then
    local wait = stats.breaker_until and stats.breaker_until - now or 0
    list[#list + 1] = { "breaker", stats.breaker:gsub("_", " ") .. (wait > 0
      and ", next probe in " .. output.duration(wait) or "") }
    list[#list + 1] = { "outages", output.number(stats.outages) }
  end
  for i, o in ipairs(stats.openings) do
    list[#list + 1] = { i == 1 and "opened" or "", ("%s ago%s, probes %d%s")
      :format(output.duration(now - o.opened_at),
              o.closed_at and ", for "
                .. output.duration(o.closed_at - o.opened_at) or "",
              o.probes, o.error ~= "" and ": " .. output.clean(o.error) or "") }
  end
  return list
end

local function counter_fields(stats)
  local list = {}
  for i, name in ipairs(COUNTERS) do
    list[i] = { name, output.number(stats[name]) }
  end
  for _, reason in ipairs(queue_stats.sorted(stats.died_by)) do
    local n = stats.died_by[reason]
    if n > 0 then
      list[#list + 1] = { "died, " .. reason, output.number(n) }
    end
  end
  list[#list + 1] = { "waited", spread(stats.wait) }
  list[#list + 1] = { "handled in", spread(stats.handle) }
  list[#list + 1] = { "kept as history", output.number(stats.kept) }
  return list
end

local function worker_fields(workers, now)
  local list = {}
  for i, w in ipairs(workers) do
    list[i] = { w.name, ("%s, pid %d on %s, for %s, %s leased"):format(
      w.state, w.pid, output.clean(w.host), show.ago(now, w.started_at),
      output.number(w.leased)) }
  end
  return list
end

local function of_queue(io, store, args)
  local queue = arguments.queue(store, args.queue)
  local stats = arguments.check(queue:stats())
  local config = arguments.check(queue:config())
  local workers = workers_of(store, queue.name)
  if args.json then
    stats.queue, stats.policy = queue.name, config
    stats.workers = workers
    return output.json(io, stats)
  end
  output.fields(io, state_fields(stats, store:now()))
  local flow = flow_fields(stats, store:now())
  if flow[1] then
    io.stdout:write "\nflow\n"
    output.fields(io, flow)
  end
  if workers[1] then
    io.stdout:write "\nworkers\n"
    output.fields(io, worker_fields(workers, store:now()))
  end
  io.stdout:write "\nsince the queue was made\n"
  output.fields(io, counter_fields(stats))
  io.stdout:write "\npolicy\n"
  output.fields(io, show.settings(queue.name, config))
end

function M.run(args, io)
  local store = arguments.open(io, args.store, show.LOOK)
  return (args.queue and of_queue or of_store)(io, store, args)
end

return M
