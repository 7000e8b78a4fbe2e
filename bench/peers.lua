-- SPDX-License-Identifier: MIT
-- respool beside the queues that people pick instead, on one machine: see
-- the usage. A ratio is taken within a round, so that both its sides ran
-- under the same load; then its median is taken.

local usage = [[
usage: lua bench/peers.lua [--rounds N] [--seconds N] [--dir DIR]

Items of 100 bytes are pushed durably, taken and acknowledged: by one client
one at a time, by one client in groups of 100, and by 8 clients one at a time.
Prints a table of items a second, and in brackets how many times as fast
respool was in the same round.

  --rounds   interleaved rounds (5)
  --seconds  of each measurement (2)
  --dir      a directory on the disk to be measured (build/bench); files go to
             "peers" there, and are removed again
]]

package.path = "./?.lua;./bench/?.lua;" .. package.path

local socket = require "socket"
local clients = require "bench.peers.clients"
local nginx_server = require "bench.nginx_server"
local report = require "report"
local rounds = require "rounds"

local SCENES = {
  { name = "one at a time", clients = 1, group = 1 },
  { name = "in groups of 100", clients = 1, group = 100 },
  { name = "8 clients, one at a time", clients = 8, group = 1 },
}

-- `client` is a function of bench/peers/clients.lua, `server` a name that
-- bench/peers/server knows, none for what has only files; `needs` is a command
-- that fails where the peer is not there.
local PEERS = {
  { name = "respool, a directory", client = "respool",
    durable = "journal, `fdatasync` before a call returns" },
  { name = "SQLite, a job table", client = "sqlite",
    needs = "lua5.4 -e 'require \"luasql.sqlite3\"'",
    durable = "WAL, `synchronous = FULL`" },
  { name = "Redis, a list and `LMOVE`", client = "redis_list",
    server = "redis", needs = "command -v redis-server",
    durable = "`appendfsync always`" },
  { name = "Redis, a stream and a group", client = "redis_stream",
    server = "redis", needs = "command -v redis-server",
    durable = "`appendfsync always`" },
  { name = "beanstalkd", client = "beanstalkd", server = "beanstalkd",
    needs = "command -v beanstalkd", durable = "`-b DIR -f 0`" },
  { name = "Tarantool, functions in it", client = "tarantool",
    server = "tarantool", needs = "command -v tarantool",
    durable = "`wal_mode = fsync`" },
  { name = "RabbitMQ, by STOMP", client = "rabbitmq", server = "rabbitmq",
    needs = "test -x /usr/lib/rabbitmq/bin/rabbitmq-server",
    durable = "quorum queue, confirms; acknowledgements are not confirmed" },
  { name = "PostgreSQL, `SKIP LOCKED`", client = "postgres",
    server = "postgres", needs = "ls /usr/lib/postgresql/*/bin/initdb && "
      .. "lua5.4 -e 'require \"luasql.postgres\"'",
    durable = "`fsync`, `synchronous_commit`" },
  { name = "respool in PostgreSQL", client = "respool", server = "postgres",
    needs = "ls /usr/lib/postgresql/*/bin/initdb",
    durable = "`fsync`, `synchronous_commit`" },
}

-- Servers.

-- By directory: the address, and the pipe that keeps the server alive.
local servers = {}

-- The first of four ports that are free.
local function free_ports()
  for _ = 1, 50 do
    local first, all = math.random(20000, 30000), true
    for i = 0, 3 do
      local s = socket.bind("127.0.0.1", first + i)
      all = all and s
      if s then s:close() end
    end
    if all then return first end
  end
  error "no ports are free"
end

local function start(name, dir)
  local port = free_ports()
  local pipe = assert(io.popen(("exec bench/peers/server %s '%s' %d"):format(
    name, dir, port), "w"))
  local address = tostring(port)
  if name == "files" then
    address = dir
  elseif name == "postgres" then
    address = nginx_server.sh(("RESPOOL_POSTGRES='%s' spec/postgres/server url")
      :format(dir))
  end
  return { address = address, pipe = pipe }
end

-- Until a client gets through.
local function await(peer)
  local deadline = socket.gettime() + 120
  while true do
    local ok, why = pcall(clients[peer.client], peer.address, 1)
    collectgarbage() -- closes its connection
    if ok then return end
    if socket.gettime() > deadline or tostring(why):find "interrupted" then
      os.execute(("tail '%s/output' >&2"):format(peer.dir))
      error(("%s does not answer: %s"):format(peer.name, why), 0)
    end
    socket.sleep(0.2)
  end
end

local function stop_all()
  for _, server in pairs(servers) do server.pipe:close() end
end

local function is_there(command)
  return not command or os.execute("{ " .. command .. "; } >/dev/null 2>&1")
end

-- The peers that are there, started.
local function start_all(o)
  local list = {}
  for _, peer in ipairs(PEERS) do
    if not is_there(peer.needs) then
      report.progress("%s is not installed: left out", peer.name)
    else
      list[#list + 1] = peer
      local name = peer.server or "files"
      peer.dir = o.dir .. "/" .. (peer.server or peer.client)
      servers[peer.dir] = servers[peer.dir] or start(name, peer.dir)
      peer.address = servers[peer.dir].address
    end
  end
  for _, peer in ipairs(list) do await(peer) end
  return list
end

-- Measuring.

-- Items a second of all clients.
local function measure(o, peer, scene)
  local pipes, rate = {}, 0
  local begin = socket.gettime() + 1 -- all are connected by then
  for i = 1, scene.clients do
    pipes[i] = assert(io.popen(("exec %s bench/peers/client.lua %s '%s' %d %f "
      .. "%d"):format(arg[-1], peer.client, peer.address, scene.group, begin,
                      o.seconds)))
  end
  for _, pipe in ipairs(pipes) do
    local n, took = pipe:read("n", "n")
    if not pipe:close() or not took then error(peer.name .. " failed", 0) end
    rate = rate + n / took
  end
  return rate
end

local function load_average()
  local f = assert(io.open "/proc/loadavg")
  local load = f:read "n"
  f:close()
  return load
end

local function print_table(o, list, results)
  report.line("Push, take and acknowledge, 100 bytes, durable: items a second "
    .. "(how many times as\nfast respool was); medians of %d interleaved "
    .. "rounds of %d s",
    o.rounds, o.seconds)
  local rows = { { "" } }
  for i, scene in ipairs(SCENES) do rows[1][i + 1] = scene.name end
  table.insert(rows[1], "durable by")
  for _, peer in ipairs(list) do
    local row = { peer.name }
    for i in ipairs(SCENES) do
      row[i + 1] = ("%s (%.2f)"):format(
        report.short(rounds.median(results, function(r) return r[peer][i] end)),
        rounds.median(results, function(r)
          return r[list[1]][i] / r[peer][i]
        end))
    end
    table.insert(row, peer.durable)
    rows[#rows + 1] = row
  end
  report.table(rows)
end

local function run(o)
  local list, results = start_all(o), {}
  report.line("Load of the machine before: %.1f", load_average())
  for r = 1, o.rounds do
    report.progress("round %d of %d", r, o.rounds)
    results[r] = {}
    for _, peer in ipairs(list) do results[r][peer] = {} end
    for i, scene in ipairs(SCENES) do
      for _, peer in ipairs(list) do
        results[r][peer][i] = measure(o, peer, scene)
      end
    end
  end
  print_table(o, list, results)
end

local o = nginx_server.options(arg, {
  rounds = 5, seconds = 2, dir = "build/bench",
}, usage)
o.dir = nginx_server.sh(("cd '%s' && rm -rf peers && mkdir peers && "
  .. "realpath peers"):format(o.dir))
if o.dir == "" then rounds.fail("no directory for the files") end
local ok, why = xpcall(run, function(why)
  return type(why) == "string" and why or debug.traceback(why)
end, o)
stop_all()
if not ok then rounds.fail("%s", why) end
