#!/usr/bin/env lua
-- SPDX-License-Identifier: MIT
--
-- Writes the Grafana dashboard, contrib/grafana/respool.json, to stdout:
--
--   lua contrib/grafana/dashboard.lua >contrib/grafana/respool.json
--
-- A panel is a line of the table below; the spec compares its metrics with
-- those that a store writes.

os.setlocale "C" -- the order of keys is that of their bytes

local Q = "{job=~\"$job\", instance=~\"$instance\", queue=~\"$queue\"}"
local S = "{job=~\"$job\", instance=~\"$instance\"}"

local function rate(metric)
  return ("sum by (queue) (rate(%s%s[$__rate_interval]))"):format(metric, Q)
end

local function by(label, metric)
  return ("sum by (queue, %s) (rate(%s%s[$__rate_interval]))")
    :format(label, metric, Q)
end

local function items(state)
  return ("sum by (queue) (respool_items%s)")
    :format(Q:gsub("}", (', state="%s"}'):format(state)))
end

-- The given part of a histogram's counts lies below.
local function below(part, metric, labels, names)
  return ("histogram_quantile(%s, sum by (%s) (rate(%s_bucket%s" ..
    "[$__rate_interval])))"):format(part, names, metric, labels)
end

local ROWS = {
  { "Queues",
    { "Ready", "short", { "{{queue}}", items "ready" } },
    { "Oldest ready item", "s",
      { "{{queue}}", "respool_oldest_age_seconds" .. Q } },
    { "Leased, scheduled, retrying", "short",
      { "{{queue}} leased", items "leased" },
      { "{{queue}} scheduled", items "scheduled" },
      { "{{queue}} retrying", items "retrying" } },
    { "Dead letters", "short",
      { "{{dlq}}", "sum by (dlq) (respool_dead_items" .. S .. ")" } },
    { "Bytes of dead letters", "bytes",
      { "{{queue}}", "respool_dead_bytes" .. Q } },
    { "Fill of bounded queues", "percentunit",
      { "{{queue}}", "respool_fill_ratio" .. Q } },
    { "Paused", "bool", { "{{queue}}", "respool_paused" .. Q } },
    { "Held", "s", { "{{queue}}", "respool_held_seconds" .. Q } },
    { "Breaker: 0 closed, 1 half open, 2 open", "short",
      { "{{queue}}", "respool_breaker" .. Q } },
    { "Partitions", "short", { "{{queue}}", "respool_partitions" .. Q } },
    { "Largest partitions", "short",
      { "{{queue}} {{partition}} {{state}}", "respool_partition_items" .. Q } },
  },
  { "Throughput",
    { "Pushed", "ops", { "{{queue}}", rate "respool_pushed_total" } },
    { "Delivered", "ops", { "{{queue}}", rate "respool_delivered_total" } },
    { "Done", "ops", { "{{queue}}", rate "respool_done_total" } },
    { "Bytes pushed and delivered", "Bps",
      { "{{queue}} pushed", rate "respool_pushed_bytes_total" },
      { "{{queue}} delivered", rate "respool_delivered_bytes_total" } },
    { "Wait until delivery", "s",
      { "{{queue}} p50",
        below(0.5, "respool_wait_seconds", Q, "queue, le") },
      { "{{queue}} p95",
        below(0.95, "respool_wait_seconds", Q, "queue, le") } },
    { "Time of handlers, by item", "s",
      { "{{queue}} p50",
        below(0.5, "respool_handler_seconds", Q, "queue, le") },
      { "{{queue}} p95",
        below(0.95, "respool_handler_seconds", Q, "queue, le") } },
  },
  { "Failures",
    { "Retried", "ops", { "{{queue}}", rate "respool_retried_total" } },
    { "Dead, by reason", "ops",
      { "{{queue}} {{reason}}", by("reason", "respool_dead_total") } },
    { "Dead letters removed by the bounds of a DLQ", "ops",
      { "{{queue}}", rate "respool_dead_dropped_total" } },
    { "Crashed and late", "ops",
      { "{{queue}} lease ran out", rate "respool_crashed_total" },
      { "{{queue}} outcome refused", rate "respool_lease_lost_total" } },
    { "Outages", "ops",
      { "{{queue}}", rate "respool_outages_total" },
      { "{{queue}} opened", rate "respool_breaker_opened_total" } },
    { "Released and snoozed", "ops",
      { "{{queue}} released", rate "respool_released_total" },
      { "{{queue}} snoozed", rate "respool_snoozed_total" } },
    { "Removed without being done", "ops",
      { "{{queue}} expired", rate "respool_expired_total" },
      { "{{queue}} removed", rate "respool_removed_total" },
      { "{{queue}} dropped", rate "respool_dropped_total" } },
    { "Damaged", "short",
      { "{{queue}}", "increase(respool_damaged_total" .. Q .. "[1h])" } },
  },
  { "Workers",
    { "Workers", "short", { "{{queue}}", "respool_workers" .. Q } },
  },
  { "Schedules",
    { "Until the next tick", "s",
      { "{{schedule}}",
        "respool_schedule_next_timestamp_seconds" .. S .. " - time()" } },
    { "Since the last tick", "s",
      { "{{schedule}}",
        "time() - respool_schedule_last_timestamp_seconds" .. S } },
    { "Ticks in an hour", "short",
      { "{{schedule}} fired",
        "increase(respool_schedule_fired_total" .. S .. "[1h])" },
      { "{{schedule}} missed",
        "increase(respool_schedule_missed_total" .. S .. "[1h])" } },
  },
  { "Store",
    { "File", "bytes",
      { "in use", "respool_used_bytes" .. S },
      { "file", "respool_file_bytes" .. S },
      { "limit", "respool_max_bytes" .. S },
      { "left on its disk", "respool_disk_available_bytes" .. S } },
    { "Stored by queue", "bytes",
      { "{{queue}}", "respool_queue_bytes" .. Q },
      { "{{queue}} history", "respool_history_bytes" .. Q } },
    { "Commits", "s",
      { "p50", below(0.5, "respool_commit_seconds", S, "le") },
      { "p95", below(0.95, "respool_commit_seconds", S, "le") } },
    { "Operations in a commit", "short",
      { "p50", below(0.5, "respool_commit_operations", S, "le") },
      { "p95", below(0.95, "respool_commit_operations", S, "le") } },
    { "Push buffers", "short",
      { "{{queue}} items", "respool_buffered_items" .. Q },
      { "{{queue}} failed flushes",
        "increase(respool_flush_failures_total" .. Q .. "[5m])" } },
    { "Reader slots", "short",
      { "in use", "respool_readers" .. S },
      { "of", "respool_max_readers" .. S } },
    { "Dead rows of a database", "short",
      { "dead rows", "respool_dead_rows" .. S } },
    { "Oldest snapshot of a database", "s",
      { "held for", "respool_snapshot_age_seconds" .. S } },
  },
}

-- JSON, with the keys of an object in the order of their names.
local function json(v, indent)
  if type(v) == "string" then
    return '"' .. v:gsub('[\\"]', "\\%0") .. '"'
  elseif type(v) ~= "table" then
    return tostring(v)
  end
  local inner, parts = indent .. "  ", {}
  for _, x in ipairs(v) do parts[#parts + 1] = inner .. json(x, inner) end
  if v[1] ~= nil or not next(v) then
    return #parts == 0 and "[]"
      or "[\n" .. table.concat(parts, ",\n") .. "\n" .. indent .. "]"
  end
  local keys = {}
  for k in pairs(v) do keys[#keys + 1] = k end
  table.sort(keys)
  for _, k in ipairs(keys) do
    parts[#parts + 1] = ('%s"%s": %s'):format(inner, k, json(v[k], inner))
  end
  return "{\n" .. table.concat(parts, ",\n") .. "\n" .. indent .. "}"
end

local SOURCE = { type = "prometheus", uid = "$source" }

local function targets(panel)
  local found = {}
  for i = 3, #panel do
    found[#found + 1] = {
      datasource = SOURCE, expr = panel[i][2], legendFormat = panel[i][1],
      refId = string.char(62 + i),
    }
  end
  return found
end

local WIDTH, HEIGHT = 8, 8 -- of a panel; a row is 24 wide

local function panels()
  local found, y = {}, 0
  local function add(panel)
    panel.id = #found + 1
    found[panel.id] = panel
  end
  for _, row in ipairs(ROWS) do
    add { type = "row", title = row[1], collapsed = false, panels = {},
          gridPos = { x = 0, y = y, w = 24, h = 1 } }
    y = y + 1
    for i = 2, #row do
      local at = i - 2
      add {
        type = "timeseries", title = row[i][1], datasource = SOURCE,
        targets = targets(row[i]),
        fieldConfig = { defaults = { unit = row[i][2], min = 0 } },
        options = { tooltip = { mode = "multi", sort = "desc" } },
        gridPos = { x = at % 3 * WIDTH, y = y + math.floor(at / 3) * HEIGHT,
                    w = WIDTH, h = HEIGHT },
      }
    end
    y = y + math.ceil((#row - 1) / 3) * HEIGHT
  end
  return found
end

local function variable(name, label, query)
  return {
    type = "query", name = name, label = label, datasource = SOURCE,
    query = query, definition = query, refresh = 2, includeAll = true,
    multi = true, sort = 1, current = { text = "All", value = "$__all" },
  }
end

local dashboard = {
  title = "respool", uid = "respool", schemaVersion = 38, version = 1,
  tags = { "respool", "queue" }, editable = true, refresh = "30s",
  time = { from = "now-6h", to = "now" },
  templating = { list = {
    { type = "datasource", name = "source", label = "Data source",
      query = "prometheus" },
    variable("job", "Job", "label_values(respool_file_bytes, job)"),
    variable("instance", "Store",
             "label_values(respool_file_bytes{job=~\"$job\"}, instance)"),
    variable("queue", "Queue",
             "label_values(respool_items{job=~\"$job\", " ..
             "instance=~\"$instance\"}, queue)"),
  } },
  panels = panels(),
}

io.write(json(dashboard, ""), "\n")
