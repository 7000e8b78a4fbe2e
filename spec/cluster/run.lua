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
--   cut         it is cut off from etcd, standbys and clients as long
--
-- each once, with FAULT=long four times. What was acknowledged is counted
-- against what was handled: nothing is lost, nothing done twice. The seconds
-- for which nobody could push are printed for each.
--
-- FAULT=control: Patroni 3.0.2 with etcd's v3 API, whose frozen primary comes
-- back as one and loses commits. It passes when that is found out, by the
-- clients, which refuse the server, and by the count.

local http = require "socket.http"
local ltn12 = require "ltn12"
local respool = require "respool"
local socket = require "socket"

local FAULT = os.getenv "FAULT" or "short"
local CONTROL = FAULT == "control"
local FROZEN = 26 -- seconds; the key in etcd lives 20

http.TIMEOUT = 2

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")
local home = build .. "/cluster"
local base, url
local failed = false

-- What a command prints, without the last newline.
local function sh(command)
  local pipe = assert(io.popen(command))
  local said = pipe:read "*a"
  pipe:close()
  return (said:gsub("\n$", ""))
end

-- "" where there is no file yet.
local function read(path)
  local file = io.open(path)
  if not file then return "" end
  local text = file:read "*a"
  file:close()
  return text
end

local function say(form, ...)
  io.write(form:format(...), "\n")
  io.flush()
end

local function wrong(form, ...)
  failed = true
  say("not so: " .. form, ...)
end

local function nodes(verb, ...)
  local words = { "spec/cluster/nodes", verb, home, ... }
  return sh(table.concat(words, " "))
end

local function wait_until(what, seconds, is)
  local deadline = socket.gettime() + seconds
  repeat
    local found = is()
    if found then return found end
    socket.sleep(0.2)
  until socket.gettime() > deadline
  error("waited in vain for " .. what .. ": see " .. home, 0)
end


-- The cluster.

-- 24 ports that nobody has.
local function free_ports()
  math.randomseed(os.time())
  for _ = 1, 50 do
    local first, taken = math.random(20000, 30000), {}
    for i = 1, 24 do
      local s = socket.bind("127.0.0.1", first + i)
      if not s then break end
      taken[i] = s
    end
    for _, s in ipairs(taken) do s:close() end
    if #taken == 24 then return first end
  end
  error "no ports are free"
end

local function get(i, path)
  return (http.request(("http://127.0.0.1:%d/%s"):format(base + 6 + i, path)))
end

-- Members by what Patroni says of them: role of each that runs, by number.
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
    if n > 0 then return list, n end
  end
  return {}, 0
end

local function number_of(role)
  for i, is in pairs(members()) do
    if is == role then return i end
  end
end

local function wait_for_all()
  wait_until("three nodes with a synchronous standby", 120, function()
    local list, n = members()
    local has = {}
    for _, role in pairs(list) do has[role] = true end
    return n == 3 and has.leader and has.sync_standby
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
    wait_until("another primary", 60, function()
      local now = number_of "leader"
      return now and now ~= i
    end)
    nodes("node", i)
  end
end

function CASES.postmaster(i)
  signal("KILL", i, "postmaster")
end

function CASES.switch(i)
  local to = wait_until("a synchronous standby", 60, function()
    return number_of "sync_standby"
  end)
  local body = ('{"leader": "p%d", "candidate": "p%d"}'):format(i, to)
  http.TIMEOUT = 60
  local _, status = http.request {
    url = ("http://127.0.0.1:%d/switchover"):format(base + 6 + i),
    method = "POST", source = ltn12.source.string(body),
    headers = { ["content-length"] = #body },
  }
  http.TIMEOUT = 2
  if status ~= 200 then wrong("switch-over: %s", tostring(status)) end
end

local function stand_still(which)
  return function(i)
    local pids = signal("STOP", i, which)
    local thaw = socket.gettime() + FROZEN
    return function()
      socket.sleep(math.max(0, thaw - socket.gettime()))
      os.execute(("kill -CONT %s 2>/dev/null"):format(pids))
    end
  end
end

CASES.freeze = stand_still "pids"
CASES.cut = stand_still "proxy"


-- The clients.

local children = {}

local function start(role, name, file)
  local command = ("exec %s spec/cluster/client.lua %s '%s' %s %s >%s 2>&1")
    :format(arg[-1], role, url, name, file, home .. "/" .. name .. ".out")
  local pid = sh(("sh -c '%s' </dev/null >/dev/null 2>&1 & echo $!")
    :format(command:gsub("'", [['\'']])))
  table.insert(children, { pid = pid, role = role, name = name,
                           out = home .. "/" .. name .. ".out" })
end

local function each_line(role, f)
  for _, child in ipairs(children) do
    if child.role == role then
      for line in read(child.out):gmatch "[^\n]+" do
        f(line:match "^(%S+) ?(%S*) ?(.*)$")
      end
    end
  end
end

local function has_ended(role)
  for _, child in ipairs(children) do
    if child.role == role and not read(child.out):find("\nend\n", 1,
                                                              true) then
      return false
    end
  end
  return true
end

-- When each acknowledged push was, in order.
local function pushes()
  local times = {}
  each_line("produce", function(word, _, at)
    if word == "pushed" then times[#times + 1] = tonumber(at) end
  end)
  table.sort(times)
  return times
end

-- The longest time from `since` on in which no push was acknowledged.
local function gap(since)
  local longest, last = 0, since
  for _, at in ipairs(pushes()) do
    if at >= since then
      longest, last = math.max(longest, at - last), at
    end
  end
  return longest
end

local function pushes_again(since)
  local times = pushes()
  return times[#times] and times[#times] > since
end

local function count()
  local pushed, unknown, refused, done, n = {}, {}, {}, {}, {}
  local function add(what, list, item)
    list[item] = (list[item] or 0) + 1
    n[what] = (n[what] or 0) + 1
  end
  each_line("produce", function(word, item)
    if word == "pushed" then add(word, pushed, item)
    elseif word == "unknown" then add(word, unknown, item)
    elseif word == "failed" then add(word, refused, item) end
  end)
  local late = {}
  each_line("consume", function(word, item)
    if word == "done" then add(word, done, item)
    elseif word == "late" then add(word, late, item)
    elseif word == "lost" then n.lost = (n.lost or 0) + 1 end
  end)
  local gone, twice, never = 0, 0, 0
  for item in pairs(pushed) do
    if not done[item] and not late[item] then gone = gone + 1 end
  end
  for item, times in pairs(done) do
    if times > 1 then twice = twice + 1 end
    if not pushed[item] and not unknown[item] then never = never + 1 end
  end
  say("%d pushes acknowledged, %d unknown, %d refused; %d items done, "
    .. "%d leases lost, %d outcomes unknown", n.pushed or 0, n.unknown or 0,
    n.failed or 0, n.done or 0, n.lost or 0, n.late or 0)
  say("%d lost, %d done twice, %d done that were refused", gone, twice, never)
  return gone, twice, never
end

local function refusals()
  local n, first = 0, nil
  for _, role in ipairs { "produce", "consume" } do
    each_line(role, function(word, code, message)
      if word == "error" and code == "CORRUPT" then
        n, first = n + 1, first or message
      end
    end)
  end
  return n, first
end


-- What is done.

local function befall(name)
  wait_for_all()
  local primary = wait_until("a primary", 60, function()
    return number_of "leader"
  end)
  local since = socket.gettime()
  local restore = CASES[name](primary)
  if restore then restore() end
  wait_for_all()
  local again = socket.gettime()
  wait_until("pushes", 60, function() return pushes_again(again) end)
  say("%-10s of p%d: %5.1f s without service; p%s leads", name, primary,
      gap(since), tostring(number_of "leader"))
end

local ORDER = { "node", "postmaster", "switch", "freeze", "cut" }

local function finish()
  assert(io.open(home .. "/no-more", "w")):close()
  wait_until("the producers' end", 120, function()
    return has_ended "produce"
  end)
  assert(io.open(home .. "/empty", "w")):close()
  wait_until("the consumers' end", 120, function()
    return has_ended "consume"
  end)
end

local function judge()
  local gone, twice, never = count()
  if gone + twice + never > 0 then
    wrong("each acknowledged item is done once")
  end
  local corrupt, message = refusals()
  if corrupt > 0 then wrong("a sound cluster is refused: %s", message) end
  local store = assert(respool.open(url, { log = false }))
  for _, finding in ipairs(assert(store:check())) do wrong("%s", finding) end
  local s = assert(assert(store:queue "orders"):stats())
  if s.done ~= s.pushed then
    wrong("the store has %d items pushed, %d done", s.pushed, s.done)
  end
  store:close()
end

local function attack()
  local times = FAULT == "long" and 4 or 1
  for _ = 1, times do
    for _, name in ipairs(ORDER) do befall(name) end
  end
  finish()
  judge()
end

local function signal_consumers(name)
  for _, child in ipairs(children) do
    if child.role == "consume" then
      os.execute(("kill -%s %s 2>/dev/null"):format(name, child.pid))
    end
  end
end

-- The primary is frozen until another one has taken pushes for a while, which
-- nobody takes away. Whether it became the primary again; then the producers
-- have refused it.
local function freeze_and_write()
  wait_for_all()
  local primary = wait_until("a primary", 60, function()
    return number_of "leader"
  end)
  local pids = signal("STOP", primary)
  wait_until("another primary", 90, function()
    local now = number_of "leader"
    return now and now ~= primary
  end)
  signal_consumers "STOP"
  local since = socket.gettime()
  wait_until("pushes", 60, function() return pushes_again(since + 3) end)
  os.execute(("kill -CONT %s 2>/dev/null"):format(pids))
  local deadline = socket.gettime() + 30
  repeat
    socket.sleep(0.5)
    if refusals() > 0 then return true end
  until socket.gettime() > deadline
  signal_consumers "CONT"
  return false
end

-- What is left is done by a process that has not seen what was lost.
local function drain_anew()
  signal_consumers "KILL"
  assert(io.open(home .. "/no-more", "w")):close()
  assert(io.open(home .. "/empty", "w")):close()
  start("consume", "fresh", home .. "/empty")
  wait_until("the end of what is left", 120, function()
    return read(children[#children].out):find("\nend\n", 1, true)
  end)
end

-- Until commits are lost, five times at most.
local function control()
  for try = 1, 5 do
    if freeze_and_write() then
      local n, message = refusals()
      say("try %d: refused %d times: %s", try, n, message)
      drain_anew()
      local gone = count()
      if gone == 0 then wrong("the count finds it out too") end
      return
    end
    say("try %d: nothing was lost", try)
  end
  wrong("in five tries the loss of commits was found out")
end

local function run()
  say("patroni %s, etcd %s, %s", sh "patroni --version | cut -d' ' -f2",
      sh "etcd --version | sed -n 's/etcd Version: //p'",
      sh "$(ls /usr/lib/postgresql/*/bin/postgres | tail -n 1) -V")
  base = free_ports()
  local began = socket.gettime()
  nodes("start", base, CONTROL and "etcd3" or "etcd")
  wait_for_all()
  say("three nodes and a synchronous standby after %.1f s",
      socket.gettime() - began)
  url = ("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d/postgres")
    :format(base + 13, base + 14, base + 15)
  assert(assert(respool.open(url, { log = false })):queue "orders")
  for i = 1, 3 do
    start("produce", "a" .. i .. "-", home .. "/no-more")
    start("consume", "b" .. i .. "-", home .. "/empty")
  end
  wait_until("pushes", 30, function() return pushes_again(began) end)
  if CONTROL then control() else attack() end
end

local ok, message = xpcall(run, function(why)
  return type(why) == "string" and not why:find "^waited in vain"
    and debug.traceback(why) or why
end)
for _, child in ipairs(children) do
  os.execute(("kill -KILL %s 2>/dev/null"):format(child.pid))
end
nodes "stop"
if not ok then wrong("%s", message) end
local left = sh(("ps -eo args | grep -F '%s' | grep -v grep")
  :format(home))
if left ~= "" then wrong("processes are left:\n%s", left) end
say("%s, 1 of 1", failed and "failed" or "passed")
os.exit(not failed)
