-- SPDX-License-Identifier: MIT
-- One process of the soak: a producer that pushes steadily, one that pushes
-- in bursts, or a worker with random outcomes. Each appends what it measures
-- to a file of its own, a line of second, kind and value a sample: what a
-- durable push took ("push"), an item waited ("wait"), both in milliseconds,
-- and the process's own memory ("rss"), in KiB.

local respool = require "respool"
local socket = require "socket"

local o = { leak = 0 }
for i = 1, #arg, 2 do
  o[arg[i]:match "^%-%-(%a+)$"] = tonumber(arg[i + 1]) or arg[i + 1]
end

local now = socket.gettime
local BATCH = 100
local BURST, PAUSE = 20000, 5 -- items at once, seconds between

math.randomseed(o.number * 7919)

local store = assert(respool.open(o.store))
local queue = assert(store:queue("soak", {
  lease = 10, max_attempts = 4,
  retry = respool.backoff.exponential { initial = 0.2, max = 2 },
  buffer = o.role == "steady" and { items = 500, interval = 0.05 } or nil,
}))
local durable = assert(store:queue "soak")
local log = assert(io.open(o.log, "w"))
local noted = 0

local function note(kind, value)
  log:write(("%.0f %s %.3f\n"):format(now(), kind, value))
end

local function own_memory()
  for line in io.lines "/proc/self/status" do
    local kib = line:match "^RssAnon:%s*(%d+)"
    if kib then return tonumber(kib) end
  end
end

-- Once a second.
local function note_memory()
  if now() - noted < 1 then return end
  noted = now()
  note("rss", own_memory())
  log:flush()
end

local function job()
  return { at = now(), kind = "soak", text = ("x"):rep(math.random(10, 300)) }
end

local function push_durably()
  local began = now()
  assert(durable:push(job()))
  note("push", (now() - began) * 1000)
end

local function sleep_until(moment)
  socket.sleep(math.max(math.min(moment, o["until"]) - now(), 0))
end

local ROLES = {}

-- `rate` items a second, one in a batch of them durably.
function ROLES.steady()
  local due = now()
  while now() < o["until"] do
    for _ = 2, BATCH do assert(queue:push(job())) end
    push_durably()
    note_memory()
    due = math.max(due + BATCH / o.rate, now() - 1)
    sleep_until(due)
  end
  assert(queue:flush())
end

function ROLES.bursty()
  while now() < o["until"] do
    local began = now()
    for _ = 1, BURST / 1000 do
      local list = {}
      for i = 1, 1000 do list[i] = job() end
      assert(queue:push_many(list))
    end
    note_memory()
    sleep_until(began + PAUSE)
  end
end

local kept = {}

-- Mostly done; some fail, once or for good, some are put off.
local function handle(payload, item)
  note_memory()
  if item.deliveries == 1 and math.random(100) == 1 then
    note("wait", (now() - payload.at) * 1000)
  end
  if o.leak == 1 then kept[#kept + 1] = payload end
  local chance = math.random(1000)
  if chance > 100 then return end
  if chance > 60 then error "it failed" end
  if chance > 30 then return respool.retry { error = "later" } end
  if chance > 20 then return respool.snooze(0.5) end
  if chance > 10 then return respool.release() end
  return respool.dead { error = "no good", group = "soak" }
end

function ROLES.worker()
  while now() < o["until"] do
    assert(queue:work(handle, { batch = math.random(10, 500), timeout = 0.5,
                                seconds = 1 }))
    note_memory()
  end
end

ROLES[o.role]()
log:close()
store:close()
