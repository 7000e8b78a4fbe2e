-- SPDX-License-Identifier: MIT
-- respool from Lua, as a subject of the benchmark: durable life of tables of
-- five fields. --shape many: all go in by push_many, a commit each group,
-- then out through work. buffer: in through a buffer that is flushed at each
-- group, then out through work. processes: as buffer, but a process of its
-- own pushes meanwhile. Prints what bench.h describes, and how the CPU time
-- compares with encoding and decoding the same tables alone.

local respool = require "respool"
local socket = require "socket"

local function options(arg)
  local o = { items = 300000, group = 10000, shape = "buffer" }
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

local function push_many(queue, o)
  for first = 1, o.items, o.group do
    assert(queue:push_many(group(first, o.group)))
  end
end

local function push_each(queue, o)
  for i = 1, o.items do assert(queue:push(event(i))) end
  assert(queue:flush())
end

-- Works until all events came by, in the order they were pushed.
local function drain(queue, o)
  local seen = 0
  assert(queue:work(function(e)
    seen = seen + 1
    assert(e.id == seen, "an event came out of turn")
  end, { batch = o.group, limit = o.items }))
  assert(seen == o.items, "events are missing")
end

-- CPU seconds of encoding and decoding every event.
local function codec_alone(o)
  local encode, decode = respool.cbor.encode, respool.cbor.decode
  local cpu = os.clock()
  for i = 1, o.items do decode(encode(event(i))) end
  return os.clock() - cpu
end

local function open(o)
  local store = assert(respool.open(o.dir))
  local buffer = o.shape ~= "many" and
    { items = o.group, bytes = math.huge, interval = 0.2 } or nil
  return store, assert(store:queue("bench", { buffer = buffer }))
end

-- The other process, which tells its CPU seconds at its end.
local function start_producer(o)
  return assert(io.popen(("%s %s --role producer --dir '%s' --items %d "
    .. "--group %d"):format(arg[-1], arg[0], o.dir, o.items, o.group)))
end

local function produce(o)
  local store, queue = open(o)
  local cpu = os.clock()
  push_each(queue, o)
  print(os.clock() - cpu)
  store:close()
end

local SHAPES = {}

function SHAPES.many(queue, o)
  push_many(queue, o)
  drain(queue, o)
  return 0
end

function SHAPES.buffer(queue, o)
  push_each(queue, o)
  drain(queue, o)
  return 0
end

function SHAPES.processes(queue, o)
  local producer = start_producer(o)
  drain(queue, o)
  local cpu = tonumber(producer:read "*l")
  producer:close()
  return assert(cpu, "the producer failed")
end

local function measure(o)
  local store, queue = open(o)
  local wall, cpu = socket.gettime(), os.clock()
  local others = SHAPES[o.shape](queue, o)
  wall, cpu = socket.gettime() - wall, os.clock() - cpu + others
  store:close()
  print(("items %d\nwall_ns %.0f\ncpu_ns %.0f\ncpu_to_codec %.3f"):format(
    o.items, wall * 1e9, cpu * 1e9, cpu / codec_alone(o)))
end

local o = options(arg)
if o.role == "producer" then produce(o) else measure(o) end
