-- SPDX-License-Identifier: MIT
--
-- Fail-over, for `make test-cluster`: three etcd and three Patroni nodes with
-- strict synchronous replication, producers and consumers in processes of their
-- own, and one after the other
--
--   node        Patroni and PostgreSQL of the primary are killed
--   postmaster  only its postmaster is
--   switch      a planned switch-over
--   freeze      the primary stands still for longer than its key in etcd lives
--   cut         it is cut off from etcd, standbys and clients as long; some
--               clients are cut off with it
--   all         Patroni and PostgreSQL of all three are killed
--
-- each once, with FAULT=long four times. What stood still or was cut off comes
-- back once others have pushed to another primary. What was acknowledged is
-- counted against what was handled: nothing is lost, nothing done twice. No
-- client that waits longer than a fail-over takes is told of a failure. The
-- seconds for which nobody could push are printed for each.
--
-- FAULT=control: Patroni 3.0.2 with etcd's v3 API, whose frozen primary comes
-- back as one and loses commits. It passes when that is found out, by the
-- clients, which refuse the server, and by the count.

local http = require "socket.http"
local ltn12 = require "ltn12"
local socket = require "socket"

package.path = "spec/cluster/?.lua;" .. package.path
local clients = require "clients"
local say, sh, wait_until = clients.say, clients.sh, clients.wait_until

local FAULT = os.getenv "FAULT" or "short"
local CONTROL = FAULT == "control"
local FROZEN = 26 -- seconds; the key in etcd lives 20

http.TIMEOUT = 2

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")
local home = build .. "/cluster"
local base

local function nodes(verb, ...)
  local words = { "spec/cluster/nodes", verb, home, ... }
  return sh(table.concat(words, " "))
end

-- The cluster.

local function get(i, path)
  return (http.request(("http://127.0.0.1:%d/%s"):format(base + 6 + i, path)))
end

-- Members by what Patroni says of them: role of each that runs, by number; how
-- many these are, and all that it says but how far each is behind.
local function members()
  for i = 1, 3 do
    local body = get(i, "cluster")
    local list, n = {}, 0
    for member in (body or ""):gmatch "{[^{}]*}" do
      local number = member:match '"name": "p(%d)"'
      local role = member:match '"role": "([%w_]+)"'
      local state = member:match '"state": "(%w+)"'
      if number and (state == "running" or state == "streaming") then
        list[tonumber(number)] = role
        n = n + 1
      end
    end
    if n > 0 then return list, n, (body:gsub('"lag":[^,}]*', "")) end
  end
  return {}, 0
end

local function number_of(role)
  local list, _, sign = members()
  for i, is in pairs(list) do
    if is == role then return i end
  end
  return nil, sign
end

local function wait_for_one(role)
  return wait_until("a " .. role, function() return number_of(role) end)
end

local function wait_for_another_than(i)
  wait_until("another primary", function()
    local now, sign = number_of "leader"
    return now and now ~= i, sign
  end)
end

local function wait_for_all()
  wait_until("three nodes with a synchronous standby", function()
    local list, n, sign = members()
    local has = {}
    for _, role in pairs(list) do has[role] = true end
    return n == 3 and has.leader and has.sync_standby, sign
  end)
end

local function signal(name, i, which)
  local pids = nodes(which or "pids", i):gsub("\n", " ")
  assert(pids ~= "", "no process of node " .. i)
  os.execute(("kill -%s %s 2>/dev/null"):format(name, pids))
  return pids
end

-- Each befalls the primary, node i; what it returns puts things right again.
local CASES = {}

function CASES.node(i)
  signal("KILL", i)
  return function()
    wait_for_another_than(i)
    nodes("node", i)
  end
end

function CASES.postmaster(i)
  local was = signal("KILL", i, "postmaster")
  return function()
    wait_until("another postmaster", function()
      local now = nodes("postmaster", i)
      return now ~= "" and now ~= was
    end)
  end
end

function CASES.switch(i)
  local to = wait_for_one "sync_standby"
  local body = ('{"leader": "p%d", "candidate": "p%d"}'):format(i, to)
  http.TIMEOUT = 60
  local _, status = http.request {
    url = ("http://127.0.0.1:%d/switchover"):format(base + 6 + i),
    method = "POST", source = ltn12.source.string(body),
    headers = { ["content-length"] = #body },
  }
  http.TIMEOUT = 2
  if status ~= 200 then clients.wrong("switch-over: %s", tostring(status)) end
  return function() wait_for_another_than(i) end
end

-- What pushes to another primary may not be taken away when this one wakes.
local function stand_still(which)
  return function(i)
    local pids = signal("STOP", i, which)
    local thaw = socket.gettime() + FROZEN
    return function()
      wait_for_another_than(i)
      clients.wait_for_pushes(socket.gettime())
      socket.sleep(math.max(0, thaw - socket.gettime()))
      os.execute(("kill -CONT %s 2>/dev/null"):format(pids))
    end
  end
end

CASES.freeze = stand_still "pids"
CASES.cut = stand_still "proxy"

function CASES.all()
  for i = 1, 3 do signal("KILL", i) end
  return function()
    for i = 1, 3 do nodes("node", i) end
  end
end

-- What is done.

local function befall(name)
  wait_for_all()
  local primary = wait_for_one "leader"
  local since = socket.gettime()
  CASES[name](primary)()
  wait_for_all()
  local again = socket.gettime()
  clients.wait_for_pushes(again)
  say("%-10s of p%d: %5.1f s without service; p%s leads", name, primary,
      clients.gap(since), tostring(number_of "leader"))
end

local ORDER = { "node", "postmaster", "switch", "freeze", "cut", "all" }

local function attack()
  local times = FAULT == "long" and 4 or 1
  for _ = 1, times do
    for _, name in ipairs(ORDER) do befall(name) end
  end
  clients.finish()
  clients.judge()
end

-- The primary is frozen until another one has taken pushes for a while, which
-- nobody takes away. It wakes half a second before its network does, so that
-- its Patroni goes by what it knew. Whether it became the primary again; then
-- the producers have refused it.
local function freeze_and_write()
  wait_for_all()
  local primary = wait_for_one "leader"
  local pids = signal("STOP", primary)
  local proxy = signal("STOP", primary, "proxy")
  wait_for_another_than(primary)
  clients.signal("STOP", "consume")
  clients.wait_for_pushes(socket.gettime() + 3)
  os.execute(("kill -CONT %s 2>/dev/null"):format(pids))
  socket.sleep(0.5)
  os.execute("kill -CONT " .. proxy)
  local deadline = socket.gettime() + 30
  repeat
    socket.sleep(0.5)
    if clients.refusals() > 0 then return true end
  until socket.gettime() > deadline
  clients.signal("CONT", "consume")
  return false
end

-- Until commits are lost, five times at most.
local function control()
  for try = 1, 5 do
    if freeze_and_write() then
      local n, message = clients.refusals()
      say("try %d: refused %d times: %s", try, n, message)
      clients.drain_anew()
      local gone = clients.count()
      if gone == 0 then clients.wrong("the count finds it out too") end
      return
    end
    say("try %d: nothing was lost", try)
  end
  clients.wrong("in five tries the loss of commits was found out")
end

-- The URL of the three at the ports behind base + `n`.
local function url_from(n)
  return ("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d/postgres")
    :format(base + n + 1, base + n + 2, base + n + 3)
end

local function run()
  say("patroni %s, etcd %s, %s", sh "patroni --version | cut -d' ' -f2",
      sh "etcd --version | sed -n 's/etcd Version: //p'",
      sh "$(ls /usr/lib/postgresql/*/bin/postgres | tail -n 1) -V")
  base = clients.free_ports(24)
  local began = socket.gettime()
  nodes("start", base, CONTROL and "etcd3" or "etcd")
  wait_for_all()
  say("three nodes and a synchronous standby after %.1f s",
      socket.gettime() - began)
  clients.start(home, url_from(12), url_from(9))
  clients.wait_for_pushes(began)
  if CONTROL then control() else attack() end
end

clients.main(home, run, function() nodes "stop" end)
