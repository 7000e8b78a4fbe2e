-- SPDX-License-Identifier: MIT
-- The event loop of one nginx worker beside what respool is asked for there.
-- A timer that should fire each millisecond measures how long the loop stood
-- still. All subjects run in each round, the idle worker first, and the
-- medians over the rounds are printed: of the wall time, which other programs
-- of the machine add to, and of the thread's own processor time.

local usage = [[
usage: lua bench/stalls.lua [--rounds N] [--seconds N] [--queues N] [--dead N]
                            [--only NAME] [--dir DIR]

How long the event loop of nginx stands still: metrics of many queues,
listings, health, JSON of 1 MiB in and out, purge, replay and export.

  --rounds   interleaved rounds (3)
  --seconds  of requests for each subject in a round (2)
  --queues   of the store (500)
  --dead     dead letters that are listed, replayed, exported and purged (20000)
  --only     the subjects whose name has this in it, and the idle worker
  --dir      a directory on the disk to be measured (build/bench); files
             go to "nginx-bench" there, and are removed again
]]

local server = require "bench.nginx_server"
local socket = require "socket"

local fail, get, median, sh = server.fail, server.get, server.median, server.sh

local WORKER = [[
  local respool = require "resty.respool"
  local store = assert(respool.shared "${dir}/store")
  bench.store = store
  bench.never = { degraded = math.huge, unhealthy = math.huge }
]]

local SERVER = [[
  location = /make { content_by_lua_block {
    local store, args = require("bench").store, ngx.req.get_uri_args()
    for i = 1, tonumber(args.queues) do
      local q = assert(store:queue("queue-" .. i))
      assert(q:push { n = i })
      local batch = assert(q:take { limit = 1 })
      batch:done()
      assert(batch:settle())
      assert(q:push { n = i })
    end
    local words = {}
    for i = 1, 2^20 / 16 do words[i] = "word number " .. i % 9 end
    store:queue("large", { max_items = 0, overflow = "dead" }):push(words)
    ngx.print "made"
  } }
  location = /bury { content_by_lua_block {
    local store, args = require("bench").store, ngx.req.get_uri_args()
    local q = assert(store:queue("dying", { max_items = 0, overflow = "dead" }))
    local left = tonumber(args.n) - assert(q.dead:count())
    for _ = 1, left, 1000 do
      local list = {}
      for i = 1, math.min(left, 1000) do
        list[i] = { name = "somebody", n = i, note = ("x"):rep(100) }
      end
      assert(q:push_many(list))
    end
    ngx.print "made"
  } }
  location = /purge { content_by_lua_block {
    local store = require("bench").store
    ngx.print(assert(store:dead "dying":purge()))
  } }
  location = /replay { content_by_lua_block {
    local store = require("bench").store
    local to = assert(store:queue "replayed")
    ngx.print(assert(store:dead "dying":replay { to = to,
      where = function(d) return d.payload.n >= 0 end }).moved)
    assert(to:purge())
  } }
  location = /export { content_by_lua_block {
    local store = require("bench").store
    local respool = require "resty.respool"
    os.execute "rm -rf ${dir}/export"
    local writer = assert(respool.file_writer("${dir}/export",
      { store = store }))
    ngx.print(assert(respool.export { dlq = store:dead "dying",
      writer = writer }).written)
  } }
  location = /metrics { content_by_lua_block {
    require("resty.respool.http").metrics { store = "${dir}/store" } } }
  location = /health { content_by_lua_block {
    require("resty.respool.http").health { store = "${dir}/store",
      bounds = { dead_share = require("bench").never,
                 error_rate = require("bench").never,
                 fill = require("bench").never } } } }
  location /admin/ { content_by_lua_block {
    require("resty.respool.http").admin { store = "${dir}/store",
      prefix = "/admin/" } } }
  location = /receive { content_by_lua_block {
    require("resty.respool.http").receive { store = "${dir}/store",
      queue = "received", json = true, max_body = "4MiB",
      options = { max_items = 50, overflow = "drop_oldest",
                  validate = function(v) assert(v) end } } } }
]]

local LIST = "/admin/dead/dying/items"

local SUBJECTS = {
  { name = "idle" },
  { name = "204s, two at a time", path = "/alone" },
  { name = "metrics", path = "/metrics" },
  { name = "admin: queues", path = "/admin/queues" },
  { name = "admin: 1000 dead letters", path = LIST .. "?limit=1000" },
  { name = "admin: a group not there", path = LIST .. "?group=none" },
  { name = "admin: groups", path = "/admin/dead/dying/groups" },
  { name = "health", path = "/health" },
  { name = "JSON of 1 MiB in", path = "/receive", body = true },
  { name = "JSON of 1 MiB out", path = "/admin/dead/large/items/1" },
  { name = "export", path = "/export", once = true },
  { name = "replay by a function", path = "/replay",
    once = true },
  { name = "purge", path = "/purge", once = true },
}

local function write_body(n)
  local words = {}
  for i = 1, 2^20 // 16 do words[i] = '"word number ' .. i % 9 .. '"' end
  local file = assert(io.open(n.dir .. "/body", "w"))
  file:write("[", table.concat(words, ",\n"), "]\n")
  file:close()
end

local function request(n, subject)
  local said = sh(("curl -s -m 120 -w ' %%{http_code}' %s -o '%s/answer' "
    .. "'%s%s'"):format(subject.body and "--data-binary @'" .. n.dir .. "/body'"
    or "", n.dir, n.url, subject.path))
  if not said:find " 20%d$" then
    fail("%s: %s %s", subject.path, said, sh(("head -c 300 '%s/answer'; tail "
      .. "-3 '%s/error.log'"):format(n.dir, n.dir)))
  end
end

-- Runs a subject; returns how often.
local function exercise(n, o, subject)
  local ends, times = os.time() + o.seconds, 0
  if not subject.path then
    os.execute("sleep " .. o.seconds)
    return 0
  elseif subject.path == "/alone" then
    sh(("wrk -t 1 -c 2 -d %ds '%s/alone'"):format(o.seconds, n.url))
    return 0
  end
  repeat
    request(n, subject)
    times = times + 1
  until subject.once or os.time() >= ends
  return times
end

local function measure(n, o, subject)
  get(n, "/bury?n=" .. o.dead)
  get(n, "/reset")
  local begun = socket.gettime()
  local times = exercise(n, o, subject)
  local took = socket.gettime() - begun
  local stall, max, cpu, cpu_max = get(n, "/tell"):match(
    "stall_us (%-?%d+) max_us (%-?%d+) cpu_us (%d+) cpu_max_us (%d+)")
  return {
    stall = stall / 1000, max = max / 1000, cpu = cpu / 1000,
    cpu_max = cpu_max / 1000, times = times,
    took = took / math.max(times, 1),
  }
end

local function print_results(subjects, rounds)
  local row = "%-26s %6s %9s %9s %9s %9s %9s"
  print(row:format("", "times", "s each", "p99.9 ms", "longest", "CPU p99.9",
                   "longest"))
  for i, subject in ipairs(subjects) do
    local function value(field, places)
      local list = {}
      for r, results in ipairs(rounds) do list[r] = results[i][field] end
      return ("%%.%df"):format(places or 1):format(median(list))
    end
    print(row:format(subject.name, value("times", 0), value "took",
      value "stall", value "max", value "cpu", value "cpu_max"))
  end
end

local function chosen(only)
  local list = {}
  for i, subject in ipairs(SUBJECTS) do
    if i == 1 or subject.name:find(only, 1, true) then
      list[#list + 1] = subject
    end
  end
  return list
end

local function main()
  local o = server.options(arg, {
    rounds = 3, seconds = 2, queues = 500, dead = 20000, dir = "build/bench",
    only = "",
  }, usage)
  local n = server.start(o, WORKER, SERVER)
  local ok, message = pcall(function()
    server.await(n)
    write_body(n)
    if sh(("curl -s -m 100 '%s/make?queues=%d'"):format(n.url, o.queues))
       ~= "made" then
      fail("no queues: %s", sh(("tail -3 '%s/error.log'"):format(n.dir)))
    end
    local subjects, rounds = chosen(o.only), {}
    for r = 1, o.rounds do
      rounds[r] = {}
      for i, subject in ipairs(subjects) do
        rounds[r][i] = measure(n, o, subject)
      end
    end
    print(("one nginx worker, a store of %d queues and %d dead letters; "
      .. "medians of %d rounds\n"):format(o.queues, o.dead, o.rounds))
    print_results(subjects, rounds)
  end)
  server.stop(n)
  if not ok then fail("%s", message) end
end

main()
