-- SPDX-License-Identifier: MIT
--
-- Health: a status for the storage, the reader slots, each queue and each
-- buffer; that of the store is the worst of them. Each figure has two bounds:
-- above the first it is degraded, above the second unhealthy. A full disk is
-- unhealthy, with the code NOSPACE. A buffer is degraded while its flushes
-- fail.
--
-- It answers within the bound of `write_seconds`, also when another process
-- holds the writer lock for ever: the write goes on in a thread, and the next
-- call looks how it went.

local core = require "respool.core"
local queue_stats = require "respool.observe.stats"
local options = require "respool.support.options"
local refusals = require "respool.observe.refusals"
local tickets = require "respool.support.ticket"
local timing = require "respool.support.timing"

local huge = math.huge

local M = {}

---@alias respool.health_status "healthy"|"degraded"|"unhealthy"

---@class respool.bounds
---@field degraded number? above it; math.huge: never
---@field unhealthy number?

-- A bound given as a number is that of "degraded".
---@class respool.health_options
---@field write_seconds number|respool.bounds? of a durable write; 1, 10: the
--- call waits no longer
---@field read_seconds number|respool.bounds? 0.1, 1
---@field store_fill number|respool.bounds? of max_bytes; 0.8, 0.95
---@field readers number|respool.bounds? part of the slots; 0.8, 0.95
---@field snapshot_age number|respool.bounds? seconds that a snapshot keeps dead
--- rows of a database; 3600, never
---@field dead_rows number|respool.bounds? of a database; 1e7, never
---@field error_rate number|respool.bounds? of a queue's outcomes; 0.1, 0.5
---@field dead_share number|respool.bounds? of the items that ended those that
--- are dead letters; 0.1, 0.5
---@field dead number|respool.bounds? dead letters; never, never
---@field ready number|respool.bounds? items; never, never
---@field refused number|respool.bounds? pushes of this store handle that were
--- refused within the window; 0, never
---@field oldest_age number|respool.bounds? seconds; 3600, never
---@field fill number|respool.bounds? of a bounded queue; 0.8, 0.99
---@field window number? seconds that error_rate and refused look back; 300
---@field least integer? outcomes below which error_rate and dead_share are not
--- judged; 10
---@field queue string? only this one

---@class respool.health
---@field status respool.health_status
---@field components table storage, readers (in files), vacuum (in a database),
--- queues by name, and if this handle has any, buffers by queue: see
--- respool.buffered

local LEVELS = { healthy = 1, degraded = 2, unhealthy = 3 }

-- A figure, or text where it is a length of time.
local function bound(value)
  return options.seconds_or_huge(value)
end

local BOUNDS = "a number, or { degraded = number, unhealthy = number }"

local function bounds(value)
  if bound(value) then return { degraded = bound(value) } end
  if type(value) ~= "table" then return nil, BOUNDS end
  local kept = {}
  for name, n in pairs(value) do
    kept[name] = (name == "degraded" or name == "unhealthy") and bound(n) or nil
    if not kept[name] then return nil, BOUNDS end
  end
  return kept
end

local FORM = {
  of = "store:health", window = options.seconds,
  least = options.whole(1, huge), write_seconds = bounds,
  read_seconds = bounds, store_fill = bounds, readers = bounds,
  error_rate = bounds, oldest_age = bounds, fill = bounds,
  dead_share = bounds, dead = bounds, ready = bounds, refused = bounds,
  snapshot_age = bounds, dead_rows = bounds,
  queue = options.name,
}

local DEFAULTS = {
  write_seconds = { 1, 10 }, read_seconds = { 0.1, 1 },
  store_fill = { 0.8, 0.95 }, readers = { 0.8, 0.95 },
  error_rate = { 0.1, 0.5 }, oldest_age = { 3600, huge },
  fill = { 0.8, 0.99 }, dead_share = { 0.1, 0.5 }, dead = { huge, huge },
  ready = { huge, huge }, refused = { 0, huge },
  snapshot_age = { 3600, huge }, dead_rows = { 1e7, huge },
}
local WINDOW, LEAST = 300, 10

local QUEUE_FIGURES = {
  "error_rate", "oldest_age", "fill", "dead_share", "dead", "ready", "refused",
}

-- All bounds of a call: { degraded, unhealthy } by name.
local function limits(o)
  local all = {}
  for name, default in pairs(DEFAULTS) do
    local given = o[name] or {}
    all[name] = {
      given.degraded or default[1], given.unhealthy or default[2],
    }
  end
  return all
end

-- The status of a figure; nil for one that is missing.
local function judge(value, limit)
  if value == nil or value <= math.min(limit[1], limit[2]) then
    return "healthy"
  end
  return value > limit[2] and "unhealthy" or "degraded"
end

local function worst(a, b)
  return LEVELS[b] > LEVELS[a] and b or a
end

-- A component: its figures, with the worst of what they mean.
local function component(values, judged, limit)
  local status = "healthy"
  for _, name in ipairs(judged) do
    status = worst(status, judge(values[name], limit[name]))
  end
  values.status = status
  return values
end


-- The store.

local function failed(message, code)
  return { status = "unhealthy", error = message, code = code }
end

local LATE = "a durable write takes longer than %ss: another process may hold "
  .. "the writer lock"

-- Begins to write and read, unless an earlier call still waits for that.
local function begin_probe(store)
  local ticket = store.probe
  if ticket and not ticket:poll() then return ticket end
  local message, code
  ticket, message, code = core.start.store.probe(store.handle, false)
  return ticket, message, code
end

-- Seconds that a read and a durable write took; waits no longer than `most`.
---@return number?, number|string, string?
local function probe(store, most)
  local ticket, message, code = begin_probe(store)
  if type(ticket) ~= "userdata" then return nil, message, code end
  if not tickets.await(ticket, timing.deadline(most)) then
    store.probe = ticket
    return nil, LATE:format(core.decimal(most)), "TIMEOUT"
  end
  store.probe = nil
  return ticket:finish()
end

-- Writes and reads, and looks at the room in use.
local function storage(store, stats, limit)
  local read, write, code
  if stats.disk_full then
    return failed(("no space left on the device for store %s"):format(
      store.path), "NOSPACE")
  elseif store.read_only then
    read, write, code = store.handle:probe(true)
  else
    local most = limit.write_seconds[2]
    read, write, code = probe(store,
      most < huge and most or DEFAULTS.write_seconds[2])
  end
  if not read then return failed(write, code) end
  local bounded = stats.max_bytes > 0 -- not in a database
  return component({
    write_seconds = write, read_seconds = read,
    store_fill = bounded and stats.used_bytes / stats.max_bytes or nil,
  }, { "write_seconds", "read_seconds", "store_fill" }, limit)
end

-- Reader slots of LMDB; there are none in a database.
local function readers(stats, limit)
  if stats.max_readers == 0 then return nil end
  return {
    status = judge(stats.readers / stats.max_readers, limit.readers),
    used = stats.readers, max = stats.max_readers,
  }
end

-- What vacuum could not remove; only of a database.
local function vacuum(stats, limit)
  if stats.max_readers > 0 then return nil end
  return component({
    snapshot_age = stats.snapshot_age, dead_rows = stats.dead_rows,
  }, { "snapshot_age", "dead_rows" }, limit)
end


-- Queues. The counts of when the store handle opened the queue, and of earlier
-- calls, are kept with it, back to the last call before the window.

local function count(stats, at)
  local failures = stats.retried + stats.died + stats.crashed
  return { at = at, failures = failures, outcomes = failures + stats.done }
end

-- Forgets what lies before the window but for one, and, when the queue was
-- made anew, all.
local function trim(past, now, from)
  local last = past[#past]
  if last and last.outcomes > now.outcomes then
    for i = #past, 1, -1 do past[i] = nil end
  end
  while past[2] and past[2].at <= from do table.remove(past, 1) end
end

-- Failures among a queue's outcomes since the window began; nil: too few to
-- tell.
local function error_rate(past, now, o)
  trim(past, now, now.at - (o.window or WINDOW))
  local first = past[1]
  table.insert(past, now)
  if not first then return nil end
  local outcomes = now.outcomes - first.outcomes
  if outcomes < (o.least or LEAST) then return nil end
  return (now.failures - first.failures) / outcomes
end

-- From now on the outcomes of a queue count; called when it is opened.
---@param store respool.store
---@param name string
---@param handle userdata the queue's
function M.begin(store, name, handle)
  if store.past[name] then return end
  local stats = handle:stat() -- nil where it would have to wait, and may not
  store.past[name] = stats and { count(stats, store.handle:now()) }
end

-- Dead letters among the items of a queue that have ended, and are not
-- forgotten.
local function dead_share(stats, o)
  local ended = stats.dead + stats.done
  if ended < (o.least or LEAST) then return nil end
  return stats.dead / ended
end

local function queue(store, name, stats, o, limit)
  local past = store.past[name] or {}
  store.past[name] = past
  local now = count(stats, store.handle:now())
  local part = component({
    held_until = stats.held_until, held_for = stats.held_for,
    breaker = stats.breaker ~= "closed" and stats.breaker or nil,
    breaker_until = stats.breaker_until,
    error_rate = error_rate(past, now, o), oldest_age = stats.oldest_age,
    fill = stats.fill, paused = stats.paused, ready = stats.ready,
    leased = stats.leased, scheduled = stats.scheduled,
    retrying = stats.retrying, dead = stats.dead,
    dead_share = dead_share(stats, o),
    refused = refusals.count(store, name, o.window or WINDOW),
  }, QUEUE_FIGURES, limit)
  if stats.breaker ~= "closed" then
    part.status = worst(part.status, "degraded")
  end
  return part
end

local function queues(store, o, limit)
  local all, message, code = queue_stats.queues(store, true)
  if not all then return nil, message, code end
  local judged = {}
  if o.queue and not all[o.queue] then
    return nil, ("there is no queue '%s'"):format(o.queue), "NOT_FOUND"
  end
  for name, stats in pairs(all) do
    if not o.queue or name == o.queue then
      judged[name] = queue(store, name, stats, o, limit)
      timing.breathe()
    end
  end
  for name in pairs(store.past) do
    if not all[name] then store.past[name] = nil end
  end
  return judged
end


-- Buffers.

-- By queue; nil when there is none.
local function buffers(store)
  local all = queue_stats.buffers(store)
  for _, b in pairs(all) do
    b.status = b.error and "degraded" or "healthy"
  end
  return next(all) and all
end

local function components(store, o)
  local limit = limits(o)
  local stats, message, code = store.handle:stat()
  local judged
  if stats then judged, message, code = queues(store, o, limit) end
  if not judged then
    return { storage = failed(message, code), queues = {} }
  end
  return {
    storage = storage(store, stats, limit), readers = readers(stats, limit),
    vacuum = vacuum(stats, limit),
    queues = judged, buffers = buffers(store),
  }
end

-- The worst of what a table of components says.
local function worst_of(parts, status)
  for _, part in pairs(parts or {}) do status = worst(status, part.status) end
  return status
end

-- The health of a store that is open. A store that does not answer is
-- unhealthy: this never returns an error.
---@param store respool.store
---@param given respool.health_options?
---@return respool.health
function M.check(store, given)
  local parts = components(store, options.read(FORM, given, 1))
  local status = parts.storage.status
  status = worst_of({ parts.readers, parts.vacuum }, status)
  status = worst_of(parts.buffers, worst_of(parts.queues, status))
  return { status = status, components = parts }
end

return M
