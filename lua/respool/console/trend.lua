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

-- What was done by each queue that changed within the last hour or since a time
-- in it, as lists of [since, at, done, failed].
local function brief(console, since)
  local by_queue, list = {}, core.cbor.array {}
  local now = console.store:now()
  since = max(since or 0, now - HOUR)
  while since <= now do
    local trends, message, code = console.store:trend {
      since = since, before = min(since + PART, now + 1),
    }
    if not trends then return answer.fail(message, code) end
    for _, t in ipairs(trends) do
      local row = by_queue[t.queue]
      if not row then
        row = { queue = t.queue, samples = core.cbor.array {} }
        by_queue[t.queue], list[#list + 1] = row, row
      end
      row.samples[#row.samples + 1] = {
        t.since, t.at, t.done, t.retried + t.died + t.crashed,
      }
    end
    since = since + PART
    timing.breathe()
  end
  return answer.json { now = now, queues = list }
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
