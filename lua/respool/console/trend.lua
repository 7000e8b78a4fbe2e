-- SPDX-License-Identifier: MIT
--
-- Trends in the console: the course of a queue's figures, and in brief that of
-- all queues.

local answer = require "respool.console.answer"
local core = require "respool.core"
local timing = require "respool.support.timing"

local min, max = math.min, math.max

local M = {}

local HOUR, PART = 3600, 300 -- seconds of all queues: at most, and at a time

-- What was done by queues: `list` of their rows, with their samples as lists of
-- [since, at, done, failed].
local function new_rows()
  return { list = core.cbor.array {}, by_queue = {} }
end

local function add(rows, t)
  local row = rows.by_queue[t.queue]
  if not row then
    row = { queue = t.queue, samples = core.cbor.array {} }
    rows.by_queue[t.queue], rows.list[#rows.list + 1] = row, row
  end
  row.samples[#row.samples + 1] = {
    t.since, t.at, t.done, t.retried + t.died + t.crashed,
  }
end

-- What was done by each queue that changed within the last hour or since a time
-- in it. A part begins at the last sample of those before, with which its first
-- is compared, however long ago that was.
local function brief(console, since)
  local rows, now = new_rows(), console.store:now()
  since = max(since or 0, now - HOUR)
  local told, ends = 0, since
  while ends <= now do
    ends = min(ends + PART, now + 1)
    local trends, message, code = console.store:trend {
      since = max(since, told), before = ends,
    }
    if not trends then return answer.fail(message, code) end
    local before = told
    for _, t in ipairs(trends) do
      if t.at > before then add(rows, t) end
      told = max(told, t.at)
    end
    timing.breathe()
  end
  return answer.json { now = now, queues = rows.list }
end

function M.list(console, r)
  if not r.o.queue then return brief(console, r.o.since) end
  local trends, message, code = console.store:trend {
    queue = r.o.queue, span = r.o.span, since = r.o.since,
    before = r.o["until"],
  }
  if not trends then return answer.fail(message, code) end
  return answer.json { now = console.store:now(),
                       trends = core.cbor.array(trends) }
end

return M
