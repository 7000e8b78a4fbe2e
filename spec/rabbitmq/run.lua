-- SPDX-License-Identifier: MIT
--
-- Forwarding to RabbitMQ, for `make test-rabbitmq`: items of a store are handed
-- over by examples/rabbitmq/worker.lua while now the broker is killed, now the
-- worker. What the worker settled as done is in the broker's queue, every item
-- at least once; what came more often is counted by its id.
--
-- The control is a broker that loses what it has stored: the count finds that.

local respool = require "respool"
local socket = require "socket"

package.path = package.path .. ";examples/rabbitmq/?.lua"
local stomp = require "stomp"

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")
local home = build .. "/rabbitmq"
local PAGE, ROUNDS = 400, os.getenv "FAULT" == "long" and 20 or 3
local PATIENCE = 120 -- seconds in which nothing moves
local port, worker
local failed = false

local function sh(command)
  local pipe = assert(io.popen(command))
  local said = pipe:read "*a"
  pipe:close()
  return (said:gsub("\n$", ""))
end

local function say(form, ...)
  io.write(form:format(...), "\n")
  io.flush()
end

local function wrong(form, ...)
  failed = true
  say("not so: " .. form, ...)
end

-- Until `is` finds something; as long as what it returns besides changes, which
-- says how far things are, they are waited for.
local function wait_until(what, is)
  local deadline, last = socket.gettime() + PATIENCE, nil
  repeat
    local found, sign = is()
    if found then return found end
    if sign ~= last then
      deadline, last = socket.gettime() + PATIENCE, sign
    end
    socket.sleep(0.1)
  until socket.gettime() > deadline
  error("waited in vain for " .. what .. ": see " .. home, 0)
end

local function free_port()
  math.randomseed(os.time())
  for _ = 1, 50 do
    local first, all = math.random(30000, 40000), true
    for i = 0, 3 do
      local s = socket.bind("127.0.0.1", first + i)
      all = all and s
      if s then s:close() end
    end
    if all then return first end
  end
  error "no ports are free"
end

local function connect()
  return stomp.connect {
    host = "127.0.0.1", port = port, vhost = "/", login = "guest",
    passcode = "guest", timeout = 5,
  }
end

local function start_broker()
  sh(("spec/rabbitmq/broker start %s %d"):format(home, port))
  local began = socket.gettime()
  wait_until("the broker", function()
    local c = connect()
    if c then c:close() end
    return c
  end)
  return socket.gettime() - began
end

local function start_worker()
  local command = ("RABBITMQ_PORT=%d exec %s bin/respool work %s/store "
    .. "examples/rabbitmq/worker.lua"):format(port, arg[-1], home)
  worker = sh(("sh -c '%s' >>%s/worker.log 2>&1 </dev/null & echo $!")
    :format(command, home))
end

-- Its children, which do the work, end with it.
local function kill_worker()
  local children = sh("ps -o pid= --ppid " .. worker):gsub("\n", " ")
  os.execute(("kill -KILL %s %s 2>/dev/null"):format(worker, children))
end

-- How often each message is in the broker's queue, by payload; they stay. The
-- broker may take its time as long as not all of 1 to `n` have come.
local function messages(n)
  local c = assert(connect())
  c:send("SUBSCRIBE", { id = 1, destination = "/queue/orders",
                        ack = "client-individual" })
  local times, left = {}, n
  while true do
    c.socket:settimeout(left > 0 and 30 or 3)
    local command, _, body = c:next()
    if command ~= "MESSAGE" then break end
    local i = tonumber(body)
    if not times[i] and i >= 1 and i <= n then left = left - 1 end
    times[i] = (times[i] or 0) + 1
  end
  c:close()
  return times
end

-- Whether each item up to n is among them; how many came more than once.
local function missing(n)
  local times = messages(n)
  local gone, again = 0, 0
  for i = 1, n do
    if not times[i] then gone = gone + 1 end
    if times[i] and times[i] > 1 then again = again + 1 end
  end
  return gone, again
end

local function push(q, from)
  local list = {}
  for i = 1, PAGE do list[i] = tostring(from + i) end
  assert(q:push_many(list))
end

local function is_under_way(q, done)
  return function()
    local now = q:stats().done
    return now > done, now
  end
end

local function is_empty(q)
  local n = q:length()
  return n.ready + n.leased + n.retrying + n.scheduled == 0
end

local function run()
  sh(("rm -rf %s; mkdir -p %s"):format(home, home))
  port = free_port()
  say("RabbitMQ %s answers after %.1f s",
      sh "dpkg-query -Wf '${Version}' rabbitmq-server", start_broker())
  local store = assert(respool.open(home .. "/store", { log = false }))
  local q = assert(store:queue("orders", { lease = 60 }))
  start_worker()
  for round = 1, ROUNDS do
    local done = q:stats().done
    push(q, (round - 1) * PAGE)
    wait_until("the worker", is_under_way(q, done + 20))
    sh("spec/rabbitmq/broker kill " .. home)
    local at = q:stats().done
    local took = start_broker()
    wait_until("the worker", is_under_way(q, at + 20))
    kill_worker()
    start_worker()
    wait_until("the end of round " .. round, function()
      return is_empty(q), q:stats().done
    end)
    local gone, again = missing(round * PAGE)
    say("round %d: broker killed, back after %.1f s, worker killed; of %d "
      .. "items %d are missing, %d came again", round, took, round * PAGE,
      gone, again)
    if gone > 0 then wrong("each item is in the broker") end
    if q.dead:count() > 0 then wrong("an outage spends no attempt") end
  end
  kill_worker()
  sh("spec/rabbitmq/broker remove " .. home)
  start_broker()
  local c = assert(connect()) -- so that the queue is there
  c:send("SEND", { destination = "/queue/orders", receipt = "1" }, "0")
  c:next()
  c:close()
  local gone = missing(ROUNDS * PAGE)
  say("control: a broker that lost its store: %d are missing", gone)
  if gone ~= ROUNDS * PAGE then wrong("the count finds that") end
  store:close()
end

local ok, message = xpcall(run, function(why)
  return tostring(why):find "^waited in vain" and why or debug.traceback(why)
end)
if worker then kill_worker() end
sh("spec/rabbitmq/broker stop " .. home)
if not ok then wrong("%s", message) end
local left
for _ = 1, 25 do -- what was killed ends soon
  left = sh(("ps -eo args | grep -F '%s' | grep -v grep"):format(home))
  if left == "" then break end
  socket.sleep(0.2)
end
if left ~= "" then wrong("processes are left:\n%s", left) end
say("%s, 1 of 1", failed and "failed" or "passed")
os.exit(not failed)
