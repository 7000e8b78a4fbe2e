-- SPDX-License-Identifier: MIT
-- The benchmark inside nginx: one worker process, loaded with wrk, answers 204
-- in four ways by turns. A ratio is taken within a round, so that both its
-- sides saw the same weather; then its median is printed. Meanwhile a timer
-- that should fire each millisecond tells how long the event loop stood still.

local usage = [[
usage: lua bench/nginx.lua [--rounds N] [--seconds N] [--connections N]
                           [--dir DIR]

Requests a second of a location that returns 204 (a) alone, (b) pushing to a
list of ngx.shared, (c) pushing to a buffer of respool, both in log_by_lua,
(d) pushing durably before it answers; and the stalls of the event loop. Then
(d) with 1, 2 and 4 workers.

  --rounds       interleaved rounds (5)
  --seconds      of load for each location in a round (2)
  --connections  of wrk (64)
  --dir          a directory on the disk to be measured (build/bench); files
                 go to "nginx-bench" there, and are removed again
]]

local server = require "bench.nginx_server"

local fail, get, median, sh = server.fail, server.get, server.median, server.sh

local SUBJECTS = {
  { path = "/alone", name = "(a) 204 alone" },
  { path = "/shared", name = "(b) ngx.shared list push" },
  { path = "/buffered", name = "(c) buffered respool push" },
  { path = "/durable", name = "(d) durable respool push" },
}

local WORKER = [[
  local respool = require "resty.respool"
  bench.store = assert(respool.open "${dir}/store")
  bench.line = ("x"):rep(100)
  bench.durable = assert(bench.store:queue "durable")
  bench.buffered = assert(bench.store:queue("buffered", { buffer = {
    items = 5000, interval = 0.05 } }))
]]

local SERVER = [[
  location = /shared { return 204; log_by_lua_block {
    ngx.shared.list:lpush("list", require"bench".line)
  } }
  location = /buffered { return 204; log_by_lua_block {
    local bench = require "bench"
    assert(bench.buffered:push(bench.line))
  } }
  location = /durable { content_by_lua_block {
    local bench = require "bench"
    assert(bench.durable:push(bench.line))
    ngx.exit(204)
  } }
  location = /mark { content_by_lua_block {
    ngx.shared.list:flush_all()
  } }
]]

-- Measuring.

local function requests(n, o, subject)
  local said = sh(("wrk -t 1 -c %d -d %ds '%s%s' 2>&1"):format(
    o.connections, o.seconds, n.url, subject.path))
  local rate = tonumber(said:match "Requests/sec:%s*([%d.]+)")
  if not rate or said:find "Non%-2xx" then
    fail("%s: %s", subject.path, said)
  end
  return rate
end

local function measure(n, o, subject)
  get(n, "/mark")
  get(n, "/reset")
  local rate = requests(n, o, subject)
  local stall, max = get(n, "/tell"):match "stall_us (%-?%d+) max_us (%-?%d+)"
  return { rate = rate, stall = stall / 1000, max = max / 1000 }
end

local function column(rounds, value)
  local list = {}
  for r, results in ipairs(rounds) do list[r] = value(results) end
  return median(list)
end

local function print_results(rounds)
  local row = "%-28s %10s %8s %8s %12s %10s"
  print(row:format("", "requests/s", "x (a)", "x (b)", "stall p99.9",
                   "longest"))
  for i, subject in ipairs(SUBJECTS) do
    local function ratio(base)
      return ("%.2f"):format(column(rounds, function(r)
        return r[i].rate / r[base].rate
      end))
    end
    local function value(field)
      return column(rounds, function(r) return r[i][field] end)
    end
    print(row:format(subject.name, ("%.0f"):format(value "rate"), ratio(1),
      ratio(2), ("%.2f ms"):format(value "stall"),
      ("%.2f ms"):format(value "max")))
  end
end

-- Each with a store and an nginx of its own, by turns.
local function measure_workers(o)
  local counts, rounds = { 1, 2, 4 }, {}
  for r = 1, o.rounds do
    rounds[r] = {}
    for i, workers in ipairs(counts) do
      local n = server.start({ dir = o.dir, workers = workers }, WORKER, SERVER)
      server.await(n)
      rounds[r][i] = requests(n, o, SUBJECTS[4])
      server.stop(n)
    end
  end
  for i, workers in ipairs(counts) do
    print(("(d) with %d nginx worker%s: %.0f requests/s, %.2f x one worker")
      :format(workers, workers == 1 and "" or "s",
              column(rounds, function(r) return r[i] end),
              column(rounds, function(r) return r[i] / r[1] end)))
  end
end

local function main()
  local o = server.options(arg, {
    rounds = 5, seconds = 2, connections = 64, dir = "build/bench",
  }, usage)
  local n = server.start(o, WORKER, SERVER)
  local ok, message = pcall(function()
    server.await(n)
    print(("one nginx worker, wrk with %d connections; medians of %d "
      .. "interleaved rounds of %d s\n"):format(o.connections, o.rounds,
                                               o.seconds))
    local rounds = {}
    for r = 1, o.rounds do
      rounds[r] = {}
      for i, subject in ipairs(SUBJECTS) do
        rounds[r][i] = measure(n, o, subject)
      end
    end
    print_results(rounds)
  end)
  server.stop(n)
  if not ok then fail("%s", message) end
  print()
  measure_workers(o)
end

main()
