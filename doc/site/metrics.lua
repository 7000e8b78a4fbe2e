-- SPDX-License-Identifier: MIT
--
-- The page of metrics, made of what a store writes.

local respool = require "respool"

local M = {}

-- Metrics of a store on which everything has happened that has a metric.
local function written()
  local store = assert(respool.open(":memory:", { log = false }))
  local queue = assert(store:queue("orders", {
    max_items = 10, breaker = true, rate = { items = 10 },
  }))
  queue:push "x"
  store:queue("mails", { buffer = {} }):push "y"
  store:schedule("nightly", { cron = "0 3 * * *", queue = queue, payload = 1 })
  queue:take():dead()
  local text = assert(store:metrics())
  store:close()
  return text
end

-- What there is only in a store on a disk.
local ON_DISK = {
  { name = "respool_disk_available_bytes", kind = "gauge",
    help = "Bytes left on the store's disk.", labels = {} },
}

-- The metrics, by name: kind, help, labels.
function M.read()
  local list, by = {}, {}
  for line in written():gmatch "[^\n]+" do
    local name, help = line:match "^# HELP (%S+) (.*)$"
    if name then
      by[name] = { name = name, help = help, labels = {} }
      list[#list + 1] = by[name]
    end
    local of, kind = line:match "^# TYPE (%S+) (.*)$"
    if of then by[of].kind = kind end
    local sample, labels = line:match "^(respool_[%w_]+)(%b{})"
    local metric = sample and list[#list]
    if metric then
      for label in labels:gmatch '[{,]([%w_]+)="' do
        if not metric.labels[label] then
          metric.labels[label] = true
          table.insert(metric.labels, label)
        end
      end
    end
  end
  for _, metric in ipairs(ON_DISK) do
    if not by[metric.name] then list[#list + 1] = metric end
  end
  return list
end

---@param prose fun(text: string): string
---@return string
function M.page(prose)
  local out = { "# Metrics\n", "As `store:metrics()`, `respool metrics` and "
    .. "the nginx handler write them; [Monitoring](../guide/monitoring.md) has "
    .. "what to make of them.\n",
    "| metric | kind | labels | |\n|---|---|---|---|" }
  for _, metric in ipairs(M.read()) do
    out[#out + 1] = ("| `%s` | %s | %s | %s |"):format(metric.name, metric.kind,
      prose(table.concat(metric.labels, ", ")), prose(metric.help))
  end
  return table.concat(out, "\n") .. "\n"
end

return M
