-- SPDX-License-Identifier: MIT
-- The demo: real webhook events are pushed, delivered by the worker script
-- deliver.lua to a receiver with bad days (endpoint.lua), retried, buried,
-- mended and delivered again. Every event is accounted for, by the queue and by
-- the receiver; when one is missing, the demo fails. At the end the receiver
-- goes away for two seconds, which costs no attempt.
--
--   make demo

local json = require "respool.support.json"
local http = require "socket.http"
local respool = require "respool"
local socket = require "socket"

local script = dofile "examples/deliver.lua"

local EVENTS = "examples/webhooks.jsonl"
local STORE = (os.getenv "RESPOOL_BUILD" or "build") .. "/demo.respool"
local BATCH = 100

local terminal = os.execute "test -t 1"


-- ---- the endpoint: a process of its own ------------------------------------

local Endpoint = {}
Endpoint.__index = Endpoint

-- Starts it. It prints its URL, and ends when the connection on which we ask
-- it to hold is closed, be it because we died.
local function start_endpoint(at)
  local command = ('exec "%s" examples/endpoint.lua %s'):format(arg[-1],
                                                              at or "")
  local process = assert(io.popen(command))
  local url = assert(process:read "l", "the endpoint did not start")
  local host, port = url:match "^http://(.-):(%d+)/$"
  local hold = assert(socket.connect(host, port))
  assert(hold:send "GET /hold HTTP/1.1\r\n\r\n")
  return setmetatable({ process = process, url = url, hold = hold }, Endpoint)
end

-- What it has seen: { accepted =, again =, requests =, answers = {} }.
function Endpoint:counts()
  return json.decode((assert(http.request(self.url .. "counts"))))
end

function Endpoint:__close()
  self.hold:close()
  self.process:close()
end


-- ---- what is shown ---------------------------------------------------------

local function say(...)
  print(string.format(...))
end

local function step(...)
  print("\n" .. string.format(...))
end

-- One line, written over again and again on a terminal, else one a second.
local Progress = {}
Progress.__index = Progress

local function new_progress(queue)
  local now = socket.gettime()
  return setmetatable({ queue = queue, began = now, next = now + 0.05 },
                      Progress)
end

function Progress:show(now)
  local s = self.queue:stats()
  local text = ("   %3d delivered  %3d ready  %3d retrying  %3d tried again" ..
    "  %3d dead  %4.1f s"):format(s.done, s.ready + s.leased, s.retrying,
    s.retried, s.dead, now - self.began)
  io.write(terminal and "\r\27[K" or "", text, terminal and "" or "\n")
  io.flush()
end

function Progress:tick()
  local now = socket.gettime()
  if now < self.next then return end
  self.next = now + (terminal and 0.05 or 1)
  self:show(now)
end

function Progress:finish()
  self:show(socket.gettime())
  if terminal then print() end
end

local function print_dead_letters(dlq)
  local row = "   %-9s  %-9s  %7s  %s"
  say(row, "group", "reason", "dead_letters", "the last one says")
  for _, g in ipairs(dlq:groups()) do
    local last = dlq:list { group = g.group, limit = 1, order = "newest" }[1]
    say(row, g.group, g.reason, g.count, last.error)
  end
end


-- ---- the steps -------------------------------------------------------------

-- A store from nothing: that of the last run goes.
local function open_fresh(path)
  os.remove(path .. "/data.mdb")
  os.remove(path .. "/lock.mdb")
  return assert(respool.open(path))
end

-- The events of the file; a body stays the text it is.
local function read_events(path)
  local events = {}
  for line in io.lines(path) do
    local event = json.decode(line)
    events[#events + 1] = {
      id = math.tointeger(event.id), event = event.event,
      body = line:match '"payload":(.*)}$',
    }
  end
  return events
end

-- The script's queue with a buffer: a push returns at once, a flush commits
-- what has come together. Until its flush a crash loses a push, so whoever
-- must know waits for flush().
local function open_queue(store)
  local options = { buffer = { items = BATCH, interval = 0.2 } }
  for name, value in pairs(script.options) do options[name] = value end
  return assert(store:queue(script.queue, options))
end

local function push(queue, events, url)
  local options = { headers = { url = url } }
  local bytes, began = 0, socket.gettime()
  for _, event in ipairs(events) do
    assert(queue:push(event, options))
    bytes = bytes + #event.body
  end
  local pushed = socket.gettime()
  assert(queue:flush())
  say("   %.1f MiB: %.0f µs a push into the buffer, all on disk after %.0f ms",
    bytes / 2^20, (pushed - began) * 1e6 / #events,
    (socket.gettime() - began) * 1000)
end

-- How a delivery that went well came about.
local function route(item)
  if item.replays > 0 then return "replayed" end
  return item.attempts > 0 and "retried" or "first"
end

-- Works until nothing is ready and nothing waits, counting what went well.
local function deliver(queue, tally)
  local progress = new_progress(queue)
  assert(queue:work(function(event, item)
    progress:tick()
    local ok, err = script.handle(event, item)
    if ok then
      local how = route(item)
      tally[how] = tally[how] + 1
    end
    return ok, err
  end, { batch = 10, stop_when_empty = true }))
  progress:finish()
end

local function replay(dlq)
  local counts = assert(dlq:replay(script.replay))
  for _, line in ipairs(counts.errors) do say("   %s", line) end
  say('   replay "%s": %d dead letters seen, %d mended and moved back, %d left',
    script.replay.name, counts.seen, counts.moved, counts.seen - counts.moved)
end


-- ---- the account -----------------------------------------------------------

local function print_rows(rows)
  for _, r in ipairs(rows) do say("   %-32s %5d", r[1], r[2]) end
end

-- Where every event is. Returns whether each is in one place, and whether the
-- endpoint has accepted each that we take for delivered.
local function account(queue, pushed, tally, counts)
  local n = queue:length()
  local delivered = tally.first + tally.retried + tally.replayed
  local nowhere = pushed - delivered - n.total - n.dead
  local unheard = delivered - counts.accepted
  print_rows {
    { "events pushed", pushed },
    { "delivered at the first try", tally.first },
    { "delivered after retries", tally.retried },
    { "delivered after a replay", tally.replayed },
    { "left in the queue", n.total },
    { "left in the dead-letter DLQ", n.dead },
    { "missing", math.max(nowhere, unheard) },
    { "accepted by the endpoint", counts.accepted },
    { "  and once more, its answer lost", counts.again },
  }
  return nowhere == 0 and unheard <= 0
end

-- The same by the queue's own counters, and by a check of the whole store.
local function verify(store, queue)
  local s, n = queue:stats(), queue:length()
  say("   the queue's books: %d pushed = %d done + %d died + %d here",
    s.pushed, s.done, s.died, n.total)
  local findings = assert(store:check())
  for _, finding in ipairs(findings) do say("   %s", finding) end
  say("   store:check() finds %d things wrong", #findings)
  return s.pushed == s.done + s.died + n.total and #findings == 0
end

-- What a scraper would see of the queue; a few of the lines.
local function print_metrics(store)
  local mine = ('queue="%s"'):format(script.queue)
  for line in assert(store:metrics()):gmatch "[^\n]+" do
    if line:find(mine, 1, true) and line:find "_total{" and
       not line:find " 0$" then
      say("   %s", line)
    end
  end
end

-- ---- an outage --------------------------------------------------------------

local OUTAGE = 2 -- seconds
local PING = '{"action":"ping","sender":{"login":"ghost"}}'

-- A queue whose breaker opens after three failures in a row of the kinds that
-- an outage has, and lets one item through each quarter of a second.
local function open_guarded(store)
  return assert(store:queue("guarded", {
    retry = script.options.retry, max_attempts = script.options.max_attempts,
    breaker = { failures = 3, cooldown = 0.25, probes = 1 },
  }))
end

-- Events of ids that the endpoint always accepts.
local function push_pings(queue, n, url)
  for i = 1, n do
    assert(queue:push({ id = 1000001 + 8 * i, event = "ping", body = PING },
                      { headers = { url = url } }))
  end
end

-- Delivers while the endpoint is away, and once it is back. Returns whether
-- all has arrived and nothing was spent.
local function outlive(store, n)
  local endpoint = start_endpoint()
  local queue, port = open_guarded(store), endpoint.url:match ":(%d+)/$"
  push_pings(queue, n, endpoint.url)
  endpoint:__close()
  local began, in_vain, spent, back = socket.gettime(), 0, 0, nil
  repeat
    assert(queue:work(function(event, item)
      spent = math.max(spent, item.attempts)
      local ok, err = script.handle(event, item)
      if not ok then in_vain = in_vain + 1 end
      return ok, err
    end, { seconds = 0.1 }))
    if not back and socket.gettime() - began >= OUTAGE then
      endpoint, back = start_endpoint(port), socket.gettime()
    end
  until queue:length().total == 0
  local s = queue:stats()
  say("   away for %d s: %d tries in vain, of %d events %d are delivered, "
    .. "%d dead,\n   the last %.1f s after its return; most attempts spent on "
    .. "one: %d", OUTAGE, in_vain, n, s.done, s.dead,
    socket.gettime() - (back or began), spent)
  endpoint:__close()
  return s.done == n and s.dead == 0 and spent == 0
end

local function print_look()
  say("\nThe store is %s. To look at it:", STORE)
  say '  eval "$(make -s env)"'
  say("  respool dead groups %s webhooks; respool top %s", STORE, STORE)
end

-- Runs it all; true when nothing is missing.
local function demo()
  local endpoint <close> = start_endpoint()
  local store <close> = open_fresh(STORE)
  local queue = open_queue(store)
  local events = read_events(EVENTS)
  local tally = { first = 0, retried = 0, replayed = 0 }
  step("1. %d webhook events are pushed, %d a flush", #events, BATCH)
  push(queue, events, endpoint.url)
  step("2. They are delivered to %s", endpoint.url)
  deliver(queue, tally)
  step "3. In the dead-letter DLQ"
  print_dead_letters(queue.dead)
  step "4. A replay mends them"
  replay(queue.dead)
  step "5. They are delivered again"
  deliver(queue, tally)
  step "6. The account"
  local complete = account(queue, #events, tally, endpoint:counts())
  local sound = verify(store, queue)
  step "7. Its metrics"
  print_metrics(store)
  step("8. The endpoint goes away for %d seconds", OUTAGE)
  local outlived = outlive(store, 100)
  print_look()
  return complete and sound and outlived
end

local function end_badly(why)
  local interrupted = why:find "interrupted!$"
  io.stderr:write("\ndemo: ", interrupted and "interrupted" or why, "\n")
  os.exit(interrupted and 130 or 1)
end

local ok, result = pcall(demo)
if not ok then end_badly(tostring(result)) end
if not result then end_badly "something is missing" end
