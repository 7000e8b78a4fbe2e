-- SPDX-License-Identifier: MIT
-- respool from Lua, as one subject of the benchmark: tables of five fields
-- go in by push_many, a commit each group, and out through work, all of them
-- in before the first is out. Prints the line that bench.h describes. --size
-- and --backlog do not apply and are ignored.

local respool = require "respool"
local socket = require "socket"

local function options(arg)
  local o = { items = 200000, group = 1000 }
  for i = 1, #arg, 2 do
    local name = arg[i]:match "^%-%-(%a+)$"
    o[assert(name, arg[i])] = tonumber(arg[i + 1]) or arg[i + 1]
  end
  return o
end

local function event(n)
  return {
    id = n, kind = "order.paid", customer = "c-" .. n % 977,
    amount = n % 9973 / 100, paid = n % 3 == 0,
  }
end

local function group(first, n)
  local events = {}
  for i = 1, n do events[i] = event(first + i - 1) end
  return events
end

local function push(queue, o, total)
  for first = 1, total, o.group do
    assert(queue:push_many(group(first, o.group)))
  end
end

-- Works until `total` events came by, in the order they were pushed.
local function drain(queue, o, total)
  local seen = 0
  queue:work(function(e)
    seen = seen + 1
    assert(e.id == seen, "an event came out of turn")
  end, { lot = o.group, stop_when_empty = true })
  assert(seen == total, "events are missing")
end

local o = options(arg)
local store = assert(respool.open(o.dir))
local queue = assert(store:queue "bench")
local wall, cpu = socket.gettime(), os.clock()
push(queue, o, o.items)
drain(queue, o, o.items)
wall, cpu = socket.gettime() - wall, os.clock() - cpu
store:close()
print(("items %d wall_ns %.0f cpu_ns %.0f"):format(o.items, wall * 1e9,
  cpu * 1e9))
