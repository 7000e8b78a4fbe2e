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
(d) pushing durably before it answers; and the stalls of the event loop.

  --rounds       interleaved rounds (5)
  --seconds      of load for each location in a round (2)
  --connections  of wrk (64)
  --dir          a directory on the disk to be measured (build/bench); files
                 go to "nginx-bench" there, and are removed again
]]

local socket = require "socket"

local BUILD = os.getenv "RESPOOL_BUILD" or "build"

local SUBJECTS = {
  { path = "/alone", name = "(a) 204 alone" },
  { path = "/shared", name = "(b) ngx.shared list push" },
  { path = "/buffered", name = "(c) buffered respool push" },
  { path = "/durable", name = "(d) durable respool push" },
}

local CONF = [[
${user}
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
pid ${dir}/nginx.pid; error_log ${dir}/error.log warn; daemon off;
worker_processes 1;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path ${dir}/t1; proxy_temp_path ${dir}/t2;
  fastcgi_temp_path ${dir}/t3; uwsgi_temp_path ${dir}/t4;
  scgi_temp_path ${dir}/t5;
  lua_shared_dict list 512m;
  lua_package_path "${tree}/lua/?.lua;${tree}/lua/?/init.lua;;";
  lua_package_cpath "${build}/luajit/?.so;;";
  init_worker_by_lua_block {
    local core = require "respool.core"
    local respool = require "resty.respool"
    local store = assert(respool.open "${dir}/store")
    local bench = {
      store = store, line = ("x"):rep(100), gaps = {},
      durable = assert(store:queue "durable"),
      buffered = assert(store:queue("buffered", { buffer = {
        items = 5000, interval = 0.05 } })),
    }
    package.loaded.bench = bench
    ngx.timer.at(0, function() -- each millisecond, and when it came instead
      local before = core.mono()
      while not ngx.worker.exiting() do
        ngx.sleep(0.001)
        local now = core.mono()
        bench.gaps[#bench.gaps + 1] = now - before
        before = now
      end
    end)
  }
  exit_worker_by_lua_block { require("resty.respool").exit() }
  server {
    listen 127.0.0.1:${port} backlog=1024;
    location = /alone { return 204; }
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
    location = /reset { content_by_lua_block {
      local bench = require "bench"
      ngx.shared.list:flush_all()
      bench.gaps = {}
      bench.commits = bench.store.handle:stat().last_txn
      bench.pushed = bench.durable:stats().pushed
    } }
    location = /tell { content_by_lua_block {
      local bench = require "bench"
      local gaps, commits = bench.gaps, bench.store.handle:stat().last_txn
      table.sort(gaps)
      local n = #gaps
      ngx.print(("stall_us %d max_us %d commits %d pushed %d"):format(
        gaps[math.ceil(n * 0.999)] - 1000, gaps[n] - 1000,
        commits - bench.commits, bench.durable:stats().pushed - bench.pushed))
    } }
  }
}
]]

local function fail(...)
  io.stderr:write(string.format(...), "\n")
  os.exit(1)
end

local function sh(command)
  local pipe = assert(io.popen(command))
  local said = pipe:read "*a"
  pipe:close()
  return (said:gsub("\n$", ""))
end

local function options(argv)
  local o = { rounds = 5, seconds = 2, connections = 64, dir = "build/bench" }
  if argv[1] == "--help" then
    print(usage)
    os.exit(0)
  end
  for i = 1, #argv, 2 do
    local name, text = argv[i]:match "^%-%-(%a+)$", argv[i + 1]
    local value = name == "dir" and text or math.tointeger(tonumber(text))
    if o[name] == nil or not value or value == 0 then
      io.stderr:write(usage)
      fail("not understood: %s %s", argv[i], text or "")
    end
    o[name] = value
  end
  return o
end


-- nginx.

local function free_port()
  local s = assert(socket.bind("127.0.0.1", 0))
  local _, port = s:getsockname()
  s:close()
  return math.tointeger(tonumber(port))
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

local function start(o)
  local tree = sh "pwd"
  local build = BUILD:sub(1, 1) == "/" and BUILD or tree .. "/" .. BUILD
  local dir = sh(("mkdir -p '%s' && cd '%s' && pwd"):format(o.dir, o.dir))
    .. "/nginx-bench"
  os.execute(("rm -rf '%s'; mkdir '%s'"):format(dir, dir))
  local port = free_port()
  local values = {
    dir = dir, tree = tree, build = build, port = port,
    user = sh "id -u" == "0" and "user root;" or "",
  }
  write(dir .. "/nginx.conf", (CONF:gsub("%${(%w+)}", values)))
  os.execute(("PATH=$PATH:/usr/sbin; nginx -p '%s' -c nginx.conf "
    .. ">'%s/out' 2>&1 &"):format(dir, dir))
  return { dir = dir, url = "http://127.0.0.1:" .. port }
end

local function get(n, path)
  return sh(("curl -s -m 10 '%s%s'"):format(n.url, path))
end

local function await(n)
  for _ = 1, 500 do
    if get(n, "/reset") == "" and get(n, "/tell"):find "stall" then return end
    socket.sleep(0.02)
  end
  fail("nginx does not come up:\n%s", sh(("cat '%s'/out '%s'/error.log")
    :format(n.dir, n.dir)))
end

local function stop(n)
  local pid = sh(("cat '%s/nginx.pid' 2>/dev/null"):format(n.dir))
  if pid ~= "" then
    os.execute(("kill -QUIT %s; while [ -e '%s/nginx.pid' ]; do sleep 0.05; "
      .. "done"):format(pid, n.dir))
  end
  os.execute(("rm -rf '%s'"):format(n.dir))
end


-- Measuring.

local function measure(n, o, subject)
  get(n, "/reset")
  local said = sh(("wrk -t 1 -c %d -d %ds '%s%s' 2>&1"):format(
    o.connections, o.seconds, n.url, subject.path))
  local rate = tonumber(said:match "Requests/sec:%s*([%d.]+)")
  if not rate or said:find "Non%-2xx" then
    fail("%s: %s", subject.path, said)
  end
  local stall, max, commits, pushed = get(n, "/tell"):match(
    "stall_us (%-?%d+) max_us (%-?%d+) commits (%d+) pushed (%d+)")
  return {
    rate = rate, stall = stall / 1000, max = max / 1000,
    share = pushed / math.max(tonumber(commits), 1),
  }
end

local function median(list)
  table.sort(list)
  local n = #list
  return n % 2 == 1 and list[(n + 1) / 2] or (list[n / 2] + list[n / 2 + 1]) / 2
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
  print(("\n(d) is %.1f pushes a commit"):format(column(rounds, function(r)
    return r[4].share
  end)))
end

local function main()
  local o = options(arg)
  local n = start(o)
  local ok, message = pcall(function()
    await(n)
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
  stop(n)
  if not ok then fail("%s", message) end
end

main()
