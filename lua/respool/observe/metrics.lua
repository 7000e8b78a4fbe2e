-- SPDX-License-Identifier: MIT
--
-- Metrics as text for a scraper: the Prometheus text format 0.0.4 (content type
-- "text/plain; version=0.0.4"), or OpenMetrics 1.0 if asked for. Counters are
-- those of the store, of all processes; only commits and buffers are those of
-- this process.
--
-- Names of queues and DLQs are labels, which are UTF-8. In a label \xHH, two
-- digits, always stands for one byte: of a name that is not UTF-8 each byte
-- from 80 on and each backslash is spelt so, and each backslash of one that
-- has such a sequence in it already. No two names give one label.

local core = require "respool.core"
local stats_of = require "respool.observe.stats"
local text_of = require "respool.support.text"
local timing = require "respool.support.timing"
local workers_of = require "respool.observe.workers"

local huge = math.huge

local M = {}


-- Text.

local function spell(c)
  return ("\\x%02x"):format(c:byte())
end

local function utf8_of(s)
  if not text_of.is_utf8(s) then return (s:gsub("[\128-\255\\]", spell)) end
  return s:find "\\x%x%x" and s:gsub("\\", spell) or s
end

local ESCAPES = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }

local function label(name, value)
  local text = utf8_of(value)
  return ('%s="%s"'):format(name, (text:gsub('[\\"\n]', ESCAPES)))
end

local function number(n)
  if n == huge then return "+Inf" end
  return n % 1 == 0 and ("%.0f"):format(n) or core.decimal(n)
end

-- Bounds are written as floats, as OpenMetrics wants them.
local function bound(n)
  return n ~= huge and n % 1 == 0 and ("%.0f.0"):format(n) or number(n)
end

-- The lines so far, and before them pieces of text. `open` is whether it is
-- OpenMetrics, where a counter's family goes without the suffix of its samples.
local function new_text(format)
  return { open = format == "openmetrics", pieces = {} }
end

local PIECE = 256 -- lines

local function cut(text)
  if #text == 0 then return end
  text.pieces[#text.pieces + 1] = table.concat(text, "\n") .. "\n"
  for i = #text, 1, -1 do text[i] = nil end
end

local function begin(text, name, kind, help)
  if text.open and kind == "counter" then name = name:gsub("_total$", "") end
  text[#text + 1] = ("# HELP %s %s"):format(name, help)
  text[#text + 1] = ("# TYPE %s %s"):format(name, kind)
end

-- Of many queues this is tens of milliseconds: others have turns between.
local function sample(text, name, labels, value)
  local braces = labels ~= "" and "{" .. labels .. "}" or ""
  text[#text + 1] = name .. braces .. " " .. number(value)
  if #text >= PIECE then cut(text) end
  timing.breathe()
end

local function joined(a, b)
  return a ~= "" and a .. "," .. b or b
end

local le = setmetatable({}, { __index = function(known, upto)
  known[upto] = label("le", bound(upto))
  return known[upto]
end }) -- the label of a bucket, by its bound, of which there are few

local function histogram(text, name, labels, h)
  local sum, bucket_name = 0, name .. "_bucket"
  for _, bucket in ipairs(h.buckets) do
    sum = sum + bucket.count
    sample(text, bucket_name, joined(labels, le[bucket.upto]), sum)
  end
  sample(text, name .. "_sum", labels, h.sum)
  sample(text, name .. "_count", labels, h.count)
end


-- Queues: family by family, in each queue by queue.

local COUNTERS = {
  { "respool_pushed_total", "pushed", "Items pushed." },
  { "respool_delivered_total", "delivered", "Items delivered." },
  { "respool_pushed_bytes_total", "pushed_bytes",
    "Payload bytes of items pushed." },
  { "respool_delivered_bytes_total", "delivered_bytes",
    "Payload bytes of items delivered." },
  { "respool_done_total", "done", "Items done." },
  { "respool_retried_total", "retried",
    "Items that failed and will be tried again." },
  { "respool_released_total", "released",
    "Items released: ready again, no attempt spent." },
  { "respool_snoozed_total", "snoozed",
    "Items snoozed: due again later, no attempt spent." },
  { "respool_expired_total", "expired", "Items that outlived their TTL." },
  { "respool_removed_total", "removed",
    "Items removed, purged, or dropped on failure." },
  { "respool_dropped_total", "dropped",
    "Items removed to make room for newer ones." },
  { "respool_crashed_total", "crashed", "Items whose lease ran out." },
  { "respool_lease_lost_total", "lease_lost",
    "Outcomes refused because the lease had run out." },
  { "respool_outages_total", "outages",
    "Failures because what items are sent to is away." },
  { "respool_breaker_opened_total", "opened",
    "Times that the queue's breaker has opened." },
  { "respool_damaged_total", "damaged",
    "Damaged segments set aside as dead letters." },
  { "respool_dead_dropped_total", "dead_dropped",
    "Dead letters removed from the queue's DLQ to keep it within its bounds." },
}

local BY_REASON = {
  { "respool_dead_total", "died_by", "Items that became dead letters." },
  { "respool_flushes_total", "flushes", "Flushes of push buffers." },
}

local GAUGES = {
  { "respool_oldest_age_seconds", "oldest_age",
    "Seconds for which the item that has been ready longest is ready." },
  { "respool_queue_bytes", "bytes", "Bytes stored for unsettled items." },
  { "respool_dead_bytes", "dead_bytes",
    "Bytes of dead letters in the queue's DLQ." },
  { "respool_history_items", "kept", "Finished items kept as history." },
  { "respool_history_bytes", "kept_bytes",
    "Bytes of finished items kept as history." },
}

local HISTOGRAMS = {
  { "respool_wait_seconds", "wait",
    "Time from push to first delivery." },
  { "respool_handler_seconds", "handle", "Time handlers took, by item." },
}

local STATES = { "ready", "leased", "scheduled", "retrying" }

-- The labels and figures of queues, in the order of their names.
local function rows_of(all)
  local rows = {}
  for i, name in ipairs(stats_of.sorted(all)) do
    rows[i] = { label("queue", name), all[name] }
  end
  return rows
end

-- Calls each(labels, stats) for every queue.
local function each_queue(rows, each)
  for _, row in ipairs(rows) do each(row[1], row[2]) end
end

local function simple(text, rows, families, kind)
  for _, family in ipairs(families) do
    begin(text, family[1], kind, family[3])
    each_queue(rows, function(labels, stats)
      sample(text, family[1], labels, stats[family[2]])
    end)
  end
end

local function by_reason(text, rows)
  for _, family in ipairs(BY_REASON) do
    begin(text, family[1], "counter", family[3])
    each_queue(rows, function(labels, stats)
      local counts = stats[family[2]]
      for _, reason in ipairs(stats_of.sorted(counts)) do
        sample(text, family[1], joined(labels, label("reason", reason)),
               counts[reason])
      end
    end)
  end
end

local function by_state(text, rows)
  begin(text, "respool_items", "gauge", "Items by state.")
  each_queue(rows, function(labels, stats)
    for _, state in ipairs(STATES) do
      sample(text, "respool_items", joined(labels, label("state", state)),
             stats[state])
    end
  end)
end

local function fill(text, rows)
  begin(text, "respool_fill_ratio", "gauge",
        "Fill of a bounded queue, 1 when full.")
  each_queue(rows, function(labels, stats)
    if stats.fill then
      sample(text, "respool_fill_ratio", labels, stats.fill)
    end
  end)
end

local function paused(text, rows)
  begin(text, "respool_paused", "gauge", "1 while the queue is paused, else 0.")
  each_queue(rows, function(labels, stats)
    sample(text, "respool_paused", labels, stats.paused and 1 or 0)
  end)
end

local BREAKER = { closed = 0, half_open = 1, open = 2 }

local function flow(text, rows, now)
  begin(text, "respool_held_seconds", "gauge",
        "Seconds for which the queue is held; 0: it is not.")
  each_queue(rows, function(labels, stats)
    local left = stats.held_until and stats.held_until - now or 0
    sample(text, "respool_held_seconds", labels, math.max(left, 0))
  end)
  begin(text, "respool_breaker", "gauge",
        "The queue's breaker: 0 closed, 1 half open, 2 open.")
  each_queue(rows, function(labels, stats)
    sample(text, "respool_breaker", labels, BREAKER[stats.breaker])
  end)
end

-- Those with most items, of queues that have so few partitions that looking
-- at all of them is cheap.
local PARTITIONS, CHEAP = 10, 10000

---@param store respool.store
---@param all table<string, respool.queue_stats>
---@return table<string, respool.partition[]>?, string?, string?
local function largest(store, all)
  local found = {}
  for name, stats in pairs(all) do
    if stats.partitions > 0 and stats.partitions <= CHEAP then
      local list, message, code = stats_of.largest(store, name, PARTITIONS)
      if not list then return nil, message, code end
      found[name] = list
    end
  end
  return found
end

local PARTITION_STATES = { "ready", "leased", "scheduled" }

local function partitions(text, rows, found)
  begin(text, "respool_partitions", "gauge",
        "Partitions of the queue that have items, or are bounded still.")
  each_queue(rows, function(labels, stats)
    sample(text, "respool_partitions", labels, stats.partitions)
  end)
  begin(text, "respool_partition_items", "gauge",
        "Items by state of the partitions with most of them.")
  for _, name in ipairs(stats_of.sorted(found)) do
    for _, p in ipairs(found[name]) do
      local labels = joined(label("queue", name), label("partition", p.key))
      for _, state in ipairs(PARTITION_STATES) do
        sample(text, "respool_partition_items",
               joined(labels, label("state", state)), p[state])
      end
    end
  end
end

local function histograms(text, rows)
  for _, family in ipairs(HISTOGRAMS) do
    begin(text, family[1], "histogram", family[3])
    each_queue(rows, function(labels, stats)
      histogram(text, family[1], labels, stats[family[2]])
    end)
  end
end

local function add_queues(text, rows, now, found)
  simple(text, rows, COUNTERS, "counter")
  by_reason(text, rows)
  by_state(text, rows)
  simple(text, rows, GAUGES, "gauge")
  fill(text, rows)
  paused(text, rows)
  flow(text, rows, now)
  partitions(text, rows, found)
  histograms(text, rows)
end


-- The store.

local STORE_GAUGES = { -- true: of stores in files
  { "respool_map_bytes", "map_bytes", "Address space of the map.", true },
  { "respool_file_bytes", "file_bytes", "High-water mark of the file." },
  { "respool_used_bytes", "used_bytes", "Bytes of the file in use." },
  { "respool_max_bytes", "max_bytes",
    "Bytes in use beyond which pushes are refused.", true },
  { "respool_disk_available_bytes", "available_bytes",
    "Bytes left on the disk of the store." },
  { "respool_readers", "readers", "Reader slots in use.", true },
  { "respool_max_readers", "max_readers", "Reader slots of the store.", true },
  { "respool_snapshot_age_seconds", "snapshot_age",
    "Since when a snapshot keeps dead rows of the database." },
  { "respool_dead_rows", "dead_rows", "Dead rows that items have left." },
}

local function add_store(text, stats)
  local in_files = stats.max_readers > 0
  for _, family in ipairs(STORE_GAUGES) do
    if stats[family[2]] ~= huge and (in_files or not family[4]) then
      begin(text, family[1], "gauge", family[3])
      sample(text, family[1], "", stats[family[2]])
    end
  end
  begin(text, "respool_commit_seconds", "histogram",
        "Time that commits of this process took.")
  histogram(text, "respool_commit_seconds", "", stats.commits)
  begin(text, "respool_commit_operations", "histogram",
        "Operations of this process that shared a commit.")
  histogram(text, "respool_commit_operations", "", stats.commit_operations)
end

local function add_dlqs(text, dead_letters)
  begin(text, "respool_dead_items", "gauge", "Dead letters by DLQ.")
  for _, dlq in ipairs(stats_of.sorted(dead_letters)) do
    sample(text, "respool_dead_items", label("dlq", dlq), dead_letters[dlq])
  end
end

-- Dead letters by DLQ.
local function count_dead_letters(store)
  local dlqs, message, code = store.handle:dead_letter_queues()
  if not dlqs then return nil, message, code end
  local dead_letters = {}
  for _, dlq in ipairs(dlqs) do
    timing.breathe()
    dead_letters[dlq], message, code = store.handle:dead_count(dlq)
    if not dead_letters[dlq] then return nil, message, code end
  end
  return dead_letters
end


-- Schedules.

local SCHEDULES = {
  { "respool_schedule_next_timestamp_seconds", "next_at", "gauge",
    "When the next tick is; none while paused." },
  { "respool_schedule_last_timestamp_seconds", "last_at", "gauge",
    "The tick that was fired last." },
  { "respool_schedule_fired_total", "fired", "counter", "Ticks fired." },
  { "respool_schedule_missed_total", "missed_ticks", "counter",
    "Ticks fired more than a minute late, or not at all." },
}

local function add_schedules(text, schedules)
  for _, family in ipairs(SCHEDULES) do
    begin(text, family[1], family[3], family[4])
    for _, s in ipairs(schedules) do
      local value = s[family[2]]
      if value then
        sample(text, family[1], label("schedule", s.name), value)
      end
    end
  end
end


-- Workers.

-- How many are at work on each of the queues, by the rows of a store.
local function count_workers(store, queues, rows)
  local n, now = {}, store.handle:now()
  for name in pairs(queues) do n[name] = 0 end
  for _, row in ipairs(rows) do
    local gone = workers_of.is_gone(row, now)
    n[row.queue] = (n[row.queue] or 0) + (gone and 0 or 1)
  end
  return n
end

local function add_workers(text, counts)
  begin(text, "respool_workers", "gauge", "Workers at work on the queue.")
  for _, name in ipairs(stats_of.sorted(counts)) do
    sample(text, "respool_workers", label("queue", name), counts[name])
  end
end


-- Buffers of this store handle.

local BUFFERS = {
  { "respool_buffered_items", "items", "gauge",
    "Items waiting in push buffers of this process." },
  { "respool_buffered_bytes", "bytes", "gauge",
    "Bytes waiting in push buffers of this process." },
  { "respool_flush_failures_total", "failures", "counter",
    "Flushes of this process that failed; they are tried again." },
}

local function add_buffers(text, rows)
  for _, family in ipairs(BUFFERS) do
    begin(text, family[1], family[3], family[4])
    each_queue(rows, function(labels, stats)
      sample(text, family[1], labels, stats[family[2]])
    end)
  end
end

-- All metrics of a store: pieces of one text.
---@param store respool.store
---@param format "prometheus"|"openmetrics"
---@return string[]?, string?, string?
function M.pieces(store, format)
  local all, stats, dead_letters, message, code
  all, message, code = stats_of.queues(store)
  if not all then return nil, message, code end
  stats, message, code = store.handle:stat()
  if not stats then return nil, message, code end
  dead_letters, message, code = count_dead_letters(store)
  if not dead_letters then return nil, message, code end
  local schedules
  schedules, message, code = stats_of.schedules(store)
  if not schedules then return nil, message, code end
  local workers
  workers, message, code = workers_of.stored(store)
  if not workers then return nil, message, code end
  local found
  found, message, code = largest(store, all)
  if not found then return nil, message, code end
  local text = new_text(format)
  add_queues(text, rows_of(all), store.handle:now(), found)
  add_buffers(text, rows_of(stats_of.buffers(store)))
  add_dlqs(text, dead_letters)
  add_schedules(text, schedules)
  add_workers(text, count_workers(store, all, workers))
  add_store(text, stats)
  if text.open then text[#text + 1] = "# EOF" end
  cut(text)
  return text.pieces
end

return M
