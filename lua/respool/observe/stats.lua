-- SPDX-License-Identifier: MIT
--
-- The figures of queues, with what follows from them: how old the oldest
-- item is, and how full the queue; and those of schedules.

local core = require "respool.core"
local timing = require "respool.support.timing"

local huge = math.huge
local max = math.max

local M = {}

---@class respool.histogram
---@field count integer
---@field sum number
---@field buckets { upto: number, count: integer }[] each over the one before

---@class respool.queue_stats
---@field ready integer
---@field leased integer
---@field scheduled integer waiting for their time: delayed or snoozed
---@field retrying integer waiting for their time after a failure or a crash
---@field dead integer dead letters in its DLQ
---@field bytes integer stored for items not settled
---@field next_due number?
---@field oldest number? when the oldest item not yet taken was pushed
---@field oldest_age number how long that is ago; 0: there is none
---@field fill number? of max_items or max_queue_bytes, the greater; nil: no
--- bound
---@field paused boolean
---@field pushed integer
---@field done integer
---@field died integer
---@field died_by table<string, integer> of these, by reason
---@field expired integer
---@field removed integer
---@field dropped integer of these, to make room
---@field delivered integer
---@field retried integer
---@field released integer
---@field snoozed integer
---@field crashed integer
---@field lease_lost integer
---@field damaged integer
---@field clock_steps integer
---@field flushes table<string, integer> of buffers, by reason
---@field wait respool.histogram seconds from push to first delivery
---@field handle respool.histogram seconds that handlers took
---@field kept integer finished items kept as history
---@field kept_bytes integer
---@field pushed_bytes integer payload bytes of `pushed`
---@field delivered_bytes integer payload bytes of `delivered`
---@field dead_bytes integer of the dead letters of `dead`
---@field dead_dropped integer removed from its dlq, beyond keep_dead's bounds
---@field partitions integer that queue:partitions would show, now
---@field held_until number? nothing is taken before; nil: it is not held
---@field held_for string? why
---@field breaker "closed"|"open"|"half_open"
---@field breaker_until number? when the next probe may go
---@field in_row integer outages in a row, while it is closed
---@field outages integer failures since the queue was made that were outages
---@field opened integer how often the breaker has opened
---@field openings respool.opening[] the last times, newest first
---@field allowed integer? items that the rate allows now; nil: no rate
---@field allowed_at number? when it allows the next, if none now

---@class respool.opening
---@field opened_at number
---@field closed_at number? nil: it is not closed yet
---@field probes integer items that went first
---@field error string of the failure that opened it

---@class respool.buffered
---@field items integer that are not flushed yet
---@field bytes integer of payload
---@field memory integer that they take
---@field failures integer flushes that failed
---@field error string? why, while the last one did
---@field code string?

local BUFFERED = { "items", "bytes", "memory", "failures" }

local function fill(stats, config)
  local items = stats.ready + stats.leased + stats.scheduled
    + stats.retrying
  if config.max_items == huge and config.max_queue_bytes == huge then
    return nil
  end
  return max(items / max(config.max_items, 1),
             stats.bytes / max(config.max_queue_bytes, 1))
end

local BREAKER = { [0] = "closed", "open", "half_open" }

-- Adds the figures of a flow.
local function add_flow(stats, flow)
  for name, value in pairs(flow) do stats[name] = value end
  stats.breaker, stats.openings = BREAKER[flow.breaker],
    core.cbor.array(flow.openings)
  if stats.held_for == "" then stats.held_for = nil end
  if stats.allowed == huge then stats.allowed = nil end
end

-- Partitions of a queue: by key, those behind `after`, or by size.
---@param handle userdata the queue's
---@param by_size boolean?
---@param limit integer
---@param after string?
---@return respool.partition[]?, string?, string?
function M.partitions(handle, by_size, limit, after)
  local list, message, code = handle:partitions(by_size, limit, after)
  if not list then return nil, message, code end
  for _, p in ipairs(list) do
    p.breaker = BREAKER[p.breaker]
    if p.held_for == "" then p.held_for = nil end
  end
  return list
end

-- Everything counted of a queue; times in seconds.
---@param store respool.store
---@param handle userdata the queue's
---@param brief boolean? without the histograms
---@return respool.queue_stats?, string?, string?
function M.queue(store, handle, brief)
  local stats, config, flow, message, code
  stats, message, code = handle:stat(brief)
  if not stats then return nil, message, code end
  config, message, code = handle:config()
  if config then flow, message, code = handle:flow() end
  if not flow then return nil, message, code end
  add_flow(stats, flow)
  local age = stats.oldest and store.handle:now() - stats.oldest or 0
  stats.oldest_age, stats.fill = max(age, 0), fill(stats, config)
  return stats
end

-- Whether a queue is less full than a share of its bounds. One without bounds
-- is, and so is any where there is no share.
---@param queue respool.queue
---@param share number?
---@return boolean?, string?, string?
function M.is_below(queue, share)
  if not share then return true end
  local stats, message, code = queue:stats()
  if not stats then return nil, message, code end
  return not stats.fill or stats.fill < share
end

local SUMMARY = {
  "ready", "leased", "scheduled", "retrying", "dead", "paused", "bytes",
  "oldest", "oldest_age", "fill", "pushed", "done", "died", "retried",
  "crashed", "damaged", "kept", "held_until", "held_for", "breaker",
  "breaker_until", "partitions",
}

-- The figures that a list of queues shows.
---@param stats respool.queue_stats
---@return table
function M.summary(stats)
  local row = {}
  for _, name in ipairs(SUMMARY) do row[name] = stats[name] end
  return row
end

-- The keys of a table of figures by name, in order.
---@param map table<string, any>
---@return string[]
function M.sorted(map)
  local names = {}
  for name in pairs(map) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- Names of the queues there are. Those that begin with a dot are kept by
-- respool's own tools, and left out.
---@param store respool.store
---@return string[]?, string?, string?
function M.names(store)
  local names, message, code = store.handle:queues()
  if not names then return nil, message, code end
  local shown = {}
  for _, name in ipairs(names) do
    if name:sub(1, 1) ~= "." then shown[#shown + 1] = name end
  end
  return shown
end

-- The contents of the buffers of a store handle, by queue; of several buffers
-- of one queue together. `error` and `code` are there while a flush fails.
---@param store respool.store
---@return table<string, respool.buffered>
function M.buffers(store)
  local all = {}
  for _, b in ipairs(store.buffered and store.handle:buffers() or {}) do
    local sum = all[b.queue]
    if not sum then
      sum = { items = 0, bytes = 0, memory = 0, failures = 0 }
      all[b.queue] = sum
    end
    for _, name in ipairs(BUFFERED) do sum[name] = sum[name] + b[name] end
    sum.error, sum.code = sum.error or b.error, sum.code or b.code
  end
  return all
end

-- Figures of all queues, by name.
---@param store respool.store
---@param brief boolean? without the histograms, which are most of them
---@return table<string, respool.queue_stats>?, string?, string?
function M.queues(store, brief)
  local names, message, code = M.names(store)
  if not names then return nil, message, code end
  local all = {}
  for _, name in ipairs(names) do
    local handle, stats
    timing.breathe()
    handle, message, code = store.handle:find(name)
    if handle then
      stats, message, code = M.queue(store, handle, brief)
      handle:close()
    end
    if not stats and code ~= "NOT_FOUND" then return nil, message, code end
    all[name] = stats
  end
  return all
end

-- The partitions of a queue that have most items.
---@param store respool.store
---@param name string of the queue; when it has gone there are none
---@param limit integer
---@return respool.partition[]?, string?, string?
function M.largest(store, name, limit)
  local handle, message, code = store.handle:find(name)
  if not handle then
    if code == "NOT_FOUND" then return {} end
    return nil, message, code
  end
  local list
  list, message, code = M.partitions(handle, true, limit)
  handle:close()
  return list, message, code
end


-- Schedules.

---@class respool.schedule
---@field name string
---@field cron string
---@field timezone string
---@field queue string
---@field payload any nil when programs make it, or it cannot be decoded
---@field bytes string? the payload as stored; nil: programs make it
---@field codec string? of the payload; nil: CBOR
---@field priority integer
---@field version integer of the payload
---@field missed "one"|"all"|"none"
---@field paused boolean
---@field next_at number? nil: there is no further tick, or it is paused
---@field last_at number? the tick that was pushed last
---@field fired integer ticks pushed
---@field missed_ticks integer fired more than a minute late, or not at all

local MISSED = { [0] = "one", "all", "none" }

local function time(ms)
  return ms > 0 and ms / 1000 or nil
end

local function or_nil(value)
  return value ~= core.cbor.null and value or nil
end

local function present(d)
  d.bytes, d.codec = or_nil(d.bytes), or_nil(d.codec)
  d.missed, d.paused = MISSED[d.missed], d.paused == 1
  d.next_at = not d.paused and time(d.next_at) or nil
  d.last_at = time(d.last_at)
  if d.bytes and not d.codec then d.payload = core.cbor.decode(d.bytes) end
  return d
end

-- The schedules of a store by name, or the one of this name.
---@param store respool.store
---@param name string?
---@return respool.schedule[]?, string?, string?
function M.schedules(store, name)
  local packed, message, code = store.handle:schedules(name)
  if not packed then return nil, message, code end
  local all = core.cbor.decode(packed)
  for _, d in ipairs(all) do present(d) end
  return all
end

return M
