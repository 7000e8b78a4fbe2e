-- SPDX-License-Identifier: MIT
--
-- What the benchmarks inside nginx share: an nginx of one worker process in a
-- directory of its own, and how much longer than a millisecond a timer of a
-- millisecond takes there.

local socket = require "socket"

local M = {}

local BUILD = os.getenv "RESPOOL_BUILD" or "build"

local running -- the nginx that was started last

function M.fail(...)
  io.stderr:write(string.format(...), "\n")
  if running then M.stop(running) end
  os.exit(1)
end

-- What a command prints.
function M.sh(command)
  local pipe = assert(io.popen(command))
  local said = pipe:read "*a"
  pipe:close()
  return (said:gsub("\n$", ""))
end

local fail, sh = M.fail, M.sh

-- Reads options; `o` holds the defaults.
function M.options(argv, o, usage)
  if argv[1] == "--help" then
    print(usage)
    os.exit(0)
  end
  for i = 1, #argv, 2 do
    local name, text = argv[i]:match "^%-%-(%a+)$", argv[i + 1]
    local value = type(o[name]) == "string" and text
      or math.tointeger(tonumber(text))
    if o[name] == nil or not value or value == 0 then
      io.stderr:write(usage)
      fail("not understood: %s %s", argv[i], text or "")
    end
    o[name] = value
  end
  return o
end

function M.median(list)
  table.sort(list)
  local n = #list
  return n % 2 == 1 and list[(n + 1) / 2] or (list[n / 2] + list[n / 2 + 1]) / 2
end


-- nginx.

-- `worker` goes into init_worker_by_lua, behind `bench`, a table that is also
-- package.loaded.bench; `server` into the server.
local CONF = [[
${user}
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
pid ${dir}/nginx.pid; error_log ${dir}/error.log warn; daemon off;
worker_processes ${workers};
events { worker_connections 2048; }
http {
  access_log off;
  keepalive_requests 1000000000; client_max_body_size 8m;
  client_body_temp_path ${dir}/t1; proxy_temp_path ${dir}/t2;
  fastcgi_temp_path ${dir}/t3; uwsgi_temp_path ${dir}/t4;
  scgi_temp_path ${dir}/t5;
  lua_shared_dict list 512m;
  lua_package_path "${tree}/lua/?.lua;${tree}/lua/?/init.lua;;";
  lua_package_cpath "${build}/luajit/?.so;;";
  init_worker_by_lua_block {
    local ffi = require "ffi"
    ffi.cdef [==[
      typedef struct { long s, ns; } bench_time;
      int clock_gettime(int clock, bench_time *t);
    ]==]
    local MONOTONIC, THREAD = 1, 3
    local t = ffi.new "bench_time"
    local function microseconds(clock)
      ffi.C.clock_gettime(clock, t)
      return tonumber(t.s) * 1e6 + tonumber(t.ns) / 1e3
    end
    local bench = {}
    package.loaded.bench = bench
    function bench.reset()
      bench.gaps, bench.cpu = {}, {}
    end
    local function rank(list, share)
      table.sort(list)
      return list[math.max(math.ceil(#list * share), 1)] or 0
    end
    function bench.tell()
      local gaps, cpu = bench.gaps, bench.cpu
      return ("stall_us %d max_us %d cpu_us %d cpu_max_us %d"):format(
        rank(gaps, 0.999) - 1000, rank(gaps, 1) - 1000, rank(cpu, 0.999),
        rank(cpu, 1))
    end
    bench.reset()
    ngx.timer.at(0, function() -- each millisecond, and when it came instead
      local before, cpu_before = microseconds(MONOTONIC), microseconds(THREAD)
      while not ngx.worker.exiting() do
        ngx.sleep(0.001)
        local now, cpu = microseconds(MONOTONIC), microseconds(THREAD)
        bench.gaps[#bench.gaps + 1] = now - before
        bench.cpu[#bench.cpu + 1] = cpu - cpu_before
        before, cpu_before = now, cpu
      end
    end)
    ${worker}
  }
  exit_worker_by_lua_block { require("resty.respool").exit() }
  server {
    listen 127.0.0.1:${port} backlog=1024;
    location = /alone { return 204; }
    location = /reset { content_by_lua_block { require("bench").reset() } }
    location = /tell { content_by_lua_block {
      ngx.print(require("bench").tell())
    } }
    ${server}
  }
}
]]

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

-- Starts it below the directory `o.dir`, with the pieces of configuration.
---@param o { dir: string, workers: integer? }
---@param worker string
---@param server string
---@return { dir: string, url: string }
function M.start(o, worker, server)
  local tree = sh "pwd"
  local build = BUILD:sub(1, 1) == "/" and BUILD or tree .. "/" .. BUILD
  local dir = sh(("mkdir -p '%s' && cd '%s' && pwd"):format(o.dir, o.dir))
    .. "/nginx-bench"
  os.execute(("rm -rf '%s'; mkdir '%s'"):format(dir, dir))
  local port = free_port()
  local values = {
    dir = dir, tree = tree, build = build, port = port,
    user = sh "id -u" == "0" and "user root;" or "",
    worker = worker, server = server, workers = o.workers or 1,
  }
  local text = CONF
  for _ = 1, 2 do text = text:gsub("%${(%w+)}", values) end
  write(dir .. "/nginx.conf", text)
  os.execute(("PATH=$PATH:/usr/sbin; nginx -p '%s' -c nginx.conf "
    .. ">'%s/out' 2>&1 &"):format(dir, dir))
  running = { dir = dir, url = "http://127.0.0.1:" .. port }
  return running
end

function M.get(n, path)
  return sh(("curl -s -m 10 '%s%s'"):format(n.url, path))
end

-- Waits until it answers.
function M.await(n)
  for _ = 1, 500 do
    if M.get(n, "/reset") == "" and M.get(n, "/tell"):find "stall" then
      return
    end
    socket.sleep(0.02)
  end
  fail("nginx does not come up:\n%s", sh(("cat '%s'/out '%s'/error.log")
    :format(n.dir, n.dir)))
end

function M.stop(n)
  running = nil
  local pid = sh(("cat '%s/nginx.pid' 2>/dev/null"):format(n.dir))
  if pid ~= "" then
    os.execute(("kill -QUIT %s; while [ -e '%s/nginx.pid' ]; do sleep 0.05; "
      .. "done"):format(pid, n.dir))
  end
  os.execute(("rm -rf '%s'"):format(n.dir))
end

return M
