-- SPDX-License-Identifier: MIT
-- Prints what is in a store: queues with their counters, what waits in them,
-- letters by group, replay jobs. It changes nothing and may run beside others.
--
--   lua5.4 examples/look.lua STORE

local respool = require "respool"

local function say(...)
  print(string.format(...))
end

local function ago(store, at)
  return ("%.0f s ago"):format(store:now() - at)
end

local function print_items(store, queue)
  for _, item in ipairs(queue:peek(3)) do
    say("  next       item %d, pushed %s, failed %d times", item.id,
      ago(store, item.pushed_at), item.attempts)
  end
end

local function print_queue(store, name)
  local queue = assert(store:queue(name))
  local s = assert(queue:stats())
  say("queue %s", name)
  say("  now        %d ready, %d leased, %d waiting", s.ready, s.leased,
    s.waiting)
  say("  ever       %d pushed, %d done, %d died, %d expired, %d removed",
    s.pushed, s.done, s.died, s.expired, s.removed)
  say("  events     %d delivered, %d retried, %d crashed", s.delivered,
    s.retried, s.crashed)
  print_items(store, queue)
end

local function print_box(store, name)
  local box = store:dead(name)
  say("box %s", name)
  say("  letters    %d", box:count())
  for _, g in ipairs(box:groups()) do
    say("  %-10s %d %s", g.group, g.count, g.reason)
  end
end

local function print_job(store, job)
  say("job %s", job.name)
  say("  %-10s %s: %d seen, %d moved, %d skipped, %d failed", job.state,
    ago(store, job.updated_at), job.seen, job.moved, job.skipped, job.failed)
end

local function fail(message)
  io.stderr:write(message, "\n")
  os.exit(1)
end

local path = arg[1] or fail "usage: lua5.4 examples/look.lua STORE"
local store, message = respool.open(path, { create = false })
if not store then fail(message) end
for _, name in ipairs(store:queues()) do print_queue(store, name) end
for _, name in ipairs(store:boxes()) do print_box(store, name) end
for _, job in ipairs(store:jobs()) do print_job(store, job) end
store:close()
