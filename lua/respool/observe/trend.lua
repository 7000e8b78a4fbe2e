-- SPDX-License-Identifier: MIT
--
-- Trends: the course of queues' figures over the last day, month or so. Any
-- process that works on a store or maintains it takes a sample each minute; the
-- differences of two samples are the trend.

local core = require "respool.core"
local hooks = require "respool.observe.hooks"
local options = require "respool.support.options"

local M = {}

-- The changes of a queue between two samples; durations in seconds.
---@class respool.trend
---@field queue string
---@field since number when the sample before was taken
---@field at number when this one was
---@field pushed integer counted between them, as are the next
---@field delivered integer
---@field done integer
---@field retried integer
---@field crashed integer
---@field died integer
---@field expired integer
---@field removed integer
---@field ready integer at the second of them, as are the next
---@field leased integer
---@field scheduled integer
---@field retrying integer
---@field dead integer
---@field bytes integer
---@field oldest_age number? of the item that had been ready longest; nil: none
---@field wait_p50 number? from push to first delivery; nil: none was delivered
---@field wait_p95 number?
---@field handle_p50 number? that handlers took; nil: none did
---@field handle_p95 number?

local COUNTS = {
  "pushed", "delivered", "done", "retried", "crashed", "died", "expired",
  "removed", "ready", "leased", "scheduled", "retrying", "dead", "bytes",
}
local TIMES = { "wait_p50", "wait_p95", "handle_p50", "handle_p95" }
local FIRST = 4 -- fields before COUNTS

local function present(packed)
  local trend = {
    queue = packed[1], since = packed[2] / 1000, at = packed[3] / 1000,
  }
  local oldest = packed[FIRST] / 1000
  trend.oldest_age = oldest > 0 and math.max(trend.at - oldest, 0) or nil
  for i, name in ipairs(COUNTS) do trend[name] = packed[FIRST + i] end
  for i, name in ipairs(TIMES) do
    local us = packed[FIRST + #COUNTS + i]
    trend[name] = us >= 0 and us / 1e6 or nil
  end
  return trend
end

local SPANS = { [60] = true, [3600] = true, [86400] = true }

local function span(value)
  local seconds = options.seconds(value)
  if SPANS[seconds] then return seconds end
  return nil, '"1m", "1h" or "1d"'
end

local FORM = {
  of = "store:trend", queue = options.name, span = span,
  since = options.time, before = options.time,
}

---@class respool.trend_options
---@field queue string? this one alone (all that changed between two samples)
---@field span "1m"|"1h"|"1d"|number? between samples: a day of minutes, a month
--- of hours or of days is kept ("1m")
---@field since number? from this time on, in seconds since 1970
---@field before number? up to this time

---@param store respool.store
---@param given respool.trend_options?
---@return respool.trend[]?, string?, string?
---@nodiscard
function M.list(store, given)
  local o = options.read(FORM, given, 1)
  local packed, message, code = store.handle:trends(
    o.queue, o.span or 60, o.since, o.before)
  if not packed then return nil, message, code end
  local list = core.cbor.decode(packed)
  for i, trend in ipairs(list) do list[i] = present(trend) end
  return list
end


-- Taking samples.

-- Takes the samples that are due. A store that is full or busy goes without.
---@param store respool.store
function M.sample(store)
  local next_in, message = store.handle:sample()
  if store.handle:closed() then return end -- while it was taken
  if not next_in then
    hooks.log(store, "debug", "no sample was taken", { error = message })
  end
  store.sample_at = store.handle:now() + (next_in or 60)
end

-- The same where it is time: from the next minute on after the first call, so
-- that a short program does not write for this alone.
---@param store respool.store
function M.tick(store)
  if store.read_only or store.handle:closed() then return end
  local now = store.handle:now()
  if not store.sample_at then
    store.sample_at = now + 60
  elseif now >= store.sample_at then
    M.sample(store)
  end
end

return M
