-- SPDX-License-Identifier: MIT
--
-- Producers and consumers in processes of their own (client.lua), and what is
-- counted of what they say.

local respool = require "respool"
local socket = require "socket"

local M = { failed = false }

local children = {}
local PATIENCE = 120 -- seconds in which nothing moves

-- What a command prints, without the last newline.
function M.sh(command)
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

function M.say(form, ...)
  io.write(form:format(...), "\n")
  io.flush()
end

function M.wrong(form, ...)
  M.failed = true
  M.say("not so: " .. form, ...)
end

-- Until `is` finds something, which is returned. What it returns besides says
-- how far things are: as long as that changes they are waited for.
function M.wait_until(what, is)
  local deadline, last = socket.gettime() + PATIENCE, nil
  repeat
    local found, sign = is()
    if found then return found end
    if sign ~= last then
      deadline, last = socket.gettime() + PATIENCE, sign
    end
    socket.sleep(0.2)
  until socket.gettime() > deadline
  error("waited in vain for " .. what .. ": see " .. M.home, 0)
end

-- The first of `n` ports that nobody has, less one.
function M.free_ports(n)
  math.randomseed(os.time())
  for _ = 1, 50 do
    local first, taken = math.random(20000, 30000), {}
    for i = 1, n do
      local s = socket.bind("127.0.0.1", first + i)
      if not s then break end
      taken[i] = s
    end
    for _, s in ipairs(taken) do s:close() end
    if #taken == n then return first end
  end
  error "no ports are free"
end

local function start(role, name, url, file)
  local out = M.home .. "/" .. name .. ".out"
  local command = ("exec %s spec/cluster/client.lua %s '%s' %s %s >%s 2>&1")
    :format(arg[-1], role, url, name, file, out)
  local pid = M.sh(("sh -c '%s' </dev/null >/dev/null 2>&1 & echo $!")
    :format(command:gsub("'", [['\'']])))
  local child = { pid = pid, role = role, url = url, out = out }
  table.insert(children, child)
  return child
end

-- Three of each, whose files lie in `home`: one that waits longer than a
-- fail-over takes, one that reaches the servers by a URL of its own, if given.
function M.start(home, url, other)
  M.home, M.url, M.patient, children = home, url, url .. "?patience=300", {}
  assert(assert(respool.open(url, { log = false })):queue "orders")
  for i, to in ipairs { url, M.patient, other or url } do
    start("produce", "a" .. i .. "-", to, home .. "/no-more")
    start("consume", "b" .. i .. "-", to, home .. "/empty")
  end
end

function M.signal(name, role)
  for _, child in ipairs(children) do
    if not role or child.role == role then
      os.execute(("kill -%s %s 2>/dev/null"):format(name, child.pid))
    end
  end
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

local function has_ended(child)
  return read(child.out):find("\nend\n", 1, true)
end

-- How many items something has become of.
local function count_items(role)
  local n = 0
  each_line(role, function(word)
    if word ~= "error" and word ~= "open" then n = n + 1 end
  end)
  return n
end

local function wait_for_end(role)
  M.wait_until("the end of those that " .. role, function()
    for _, child in ipairs(children) do
      if child.role == role and not has_ended(child) then
        return false, count_items(role)
      end
    end
    return true
  end)
end

local function touch(name)
  assert(io.open(M.home .. "/" .. name, "w")):close()
end

function M.finish()
  touch "no-more"
  wait_for_end "produce"
  touch "empty"
  wait_for_end "consume"
end

-- What is left is done by a process that has not seen what was lost.
function M.drain_anew()
  M.signal("KILL", "consume")
  touch "no-more"
  touch "empty"
  local child = start("consume", "fresh", M.url, M.home .. "/empty")
  M.wait_until("the end of what is left", function()
    return has_ended(child), count_items "consume"
  end)
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
function M.gap(since)
  local longest, last = 0, since
  for _, at in ipairs(pushes()) do
    if at >= since then
      longest, last = math.max(longest, at - last), at
    end
  end
  return longest
end

function M.wait_for_pushes(since)
  M.wait_until("pushes", function()
    local times = pushes()
    return times[#times] and times[#times] > since
  end)
end

-- How many acknowledged items were lost, how many done twice, how many done
-- that were refused.
function M.count()
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
  M.say("%d pushes acknowledged, %d unknown, %d refused; %d items done, "
    .. "%d leases lost, %d outcomes unknown", n.pushed or 0, n.unknown or 0,
    n.failed or 0, n.done or 0, n.lost or 0, n.late or 0)
  M.say("%d lost, %d done twice, %d done that were refused", gone, twice,
        never)
  return gone, twice, never
end

-- How often a client refused the server as one that went back, and the first
-- message.
function M.refusals()
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

-- Those that wait long enough are told of nothing but lost leases.
local function judge_patient()
  for _, child in ipairs(children) do
    if child.url == M.patient then
      for line in read(child.out):gmatch "error [^\n]+" do
        if not line:find "^error LEASE_LOST " then
          M.wrong("who waits is told what happened: %s", line)
        end
      end
    end
  end
end

-- Nothing is lost, nothing done twice, and the store is as it should be.
function M.judge()
  local gone, twice, never = M.count()
  if gone + twice + never > 0 then
    M.wrong("each acknowledged item is done once")
  end
  judge_patient()
  local corrupt, message = M.refusals()
  if corrupt > 0 then M.wrong("a sound cluster is refused: %s", message) end
  local store = assert(respool.open(M.url, { log = false }))
  for _, finding in ipairs(assert(store:check())) do M.wrong("%s", finding) end
  local s = assert(assert(store:queue "orders"):stats())
  if s.done ~= s.pushed then
    M.wrong("the store has %d items pushed, %d done", s.pushed, s.done)
  end
  store:close()
end

-- Runs all of it; `stop` ends the servers whose files lie in `home`. Ends the
-- program.
function M.main(home, run, stop)
  M.home = home
  local ok, message = xpcall(run, function(why)
    return type(why) == "string" and not why:find "^waited in vain"
      and debug.traceback(why) or why
  end)
  M.signal "KILL"
  stop()
  if not ok then M.wrong("%s", message) end
  local left
  for _ = 1, 25 do -- what was killed ends soon
    left = M.sh(("ps -eo args | grep -F '%s/' | grep -v grep"):format(home))
    if left == "" then break end
    socket.sleep(0.2)
  end
  if left ~= "" then M.wrong("processes are left:\n%s", left) end
  M.say("%s, 1 of 1", M.failed and "failed" or "passed")
  os.exit(not M.failed)
end

return M
