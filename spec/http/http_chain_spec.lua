-- SPDX-License-Identifier: MIT
--
-- Two stores in a row: receive, deliver, receive, deliver, endpoint,
-- each a process that is killed at random and started again. Every request
-- that was answered 202 arrives. The same account is kept of a link that
-- answers before it commits, and must find what that loses.

local cli = require "spec.helper.cli"
local endpoint_of = require "spec.helper.servers.http_endpoint"
local helper = require "spec.helper"
local respool = require "respool"
local socket = require "socket"

local REQUESTS, TOGETHER, KILLS = 240, 8, 14

-- An receive that answers first and keeps what it was given in memory.
local CARELESS = [[
  local respool = require "respool"
  local server_of = require "respool.server.server"
  local store = assert(respool.open(arg[1]))
  local q = assert(store:queue("hooks", {
    buffer = { items = 100000, interval = 3600 },
  }))
  local server = assert(server_of.listen {
    host = "127.0.0.1", port = tonumber(arg[2]), max_head = 9999,
    max_body = 9999, max_connections = 99, timeout = 30, idle = 30,
    admit = function() end, on_error = error,
    answer = function(request)
      assert(q:push(request.body))
      return { status = 202, text = "" }
    end,
    round = function() return false end,
  })
  print("listening on " .. server.url)
  io.stdout:flush()
  while true do server:step(0.1) end
]]


-- ---- links: processes that can be started again ----------------------------

local function new_store(lease)
  local path = helper.location()
  local store = assert(helper.open(path))
  assert(store:queue("hooks", {
    lease = lease, max_attempts = math.huge, max_crashes = math.huge,
    retry = respool.backoff.constant { delay = 0.05 },
  }))
  return store
end

local function queue_of(store)
  return assert(store:queue "hooks")
end

local function begin(link)
  link.process = link.start(link.port or 0)
  if link.listens then
    link.process:expect "listening on"
    link.port = link.process:output():match "listening on http://[^\n]*:(%d+)"
  end
  return link
end

local function receiver(store)
  return begin { listens = true, start = function(port)
    return cli.start { "receive", store.path, "hooks",
                       "--listen", "127.0.0.1:" .. port }
  end }
end

local function careless_receiver(store)
  return begin { listens = true, start = function(port)
    return helper.spawn(CARELESS, store.path, port)
  end }
end

local function deliver(store, ...)
  local words = { "deliver", store.path, "hooks", "--concurrency", "4" }
  for i = 1, select("#", ...) do
    words[#words + 1] = "--url"
    words[#words + 1] = (select(i, ...))
  end
  return begin { start = function() return cli.start(words) end }
end

local function restart(link)
  link.process:kill()
  begin(link)
end

local function url_of(link)
  return ("http://127.0.0.1:%s/"):format(link.port)
end

-- The row, first to last. A lease is short where who has it may be killed, and
-- else so long that a busy machine loses none.
local function new_chain(first_receiver, lease)
  local chain = { endpoint = endpoint_of.start() }
  local a, b = new_store(lease or 60), new_store(lease or 60)
  chain.queues = { queue_of(a), queue_of(b) }
  chain[3] = receiver(b)
  chain[4] = deliver(b, chain.endpoint:url "202",
                     chain.endpoint:url "503,close,202")
  chain[1] = first_receiver(a)
  chain[2] = deliver(a, url_of(chain[3]))
  return chain
end


-- ---- a client that insists -------------------------------------------------

local function send(link, n)
  local s = socket.connect("127.0.0.1", tonumber(link.port))
  if not s then return nil end
  s:settimeout(60)
  s:send(("POST / HTTP/1.1\r\nHost: h\r\nIdempotency-Key: %s\r\n"
    .. "Connection: close\r\nContent-Length: %d\r\n\r\n%s"):format(n, #n, n))
  return s
end

-- Posts these numbers at once; `meanwhile` runs before the answers are read.
-- Returns those that were accepted.
local function post(link, numbers, meanwhile)
  local sockets, accepted = {}, {}
  for _, n in ipairs(numbers) do sockets[n] = send(link, n) end
  meanwhile()
  for _, n in ipairs(numbers) do
    local first = sockets[n] and sockets[n]:receive "*l"
    if first and first:find "^HTTP/1.1 202 " then
      accepted[#accepted + 1] = n
    end
    if sockets[n] then sockets[n]:close() end
  end
  return accepted
end

-- The next numbers to be posted.
local function pick(left)
  local numbers = {}
  for n in pairs(left) do
    numbers[#numbers + 1] = n
    if #numbers == TOGETHER then break end
  end
  return numbers
end

-- Posts until every number is accepted; kill() is called now and then.
local function post_all(chain, kill)
  local left = {}
  for n = 1, REQUESTS do left[tostring(n)] = true end
  while next(left) do
    for _, n in ipairs(post(chain[1], pick(left), kill)) do left[n] = nil end
  end
end


-- ---- the account -----------------------------------------------------------

-- Waits until nothing is in the queues, and a while for it to come back.
local function settle(chain)
  local deadline = socket.gettime() + 120
  repeat
    local total = chain.queues[1]:length().total
      + chain.queues[2]:length().total
    if total == 0 then return end
    socket.sleep(0.02)
  until socket.gettime() > deadline
  error("the queues have not become empty")
end

-- How often each number was accepted by the URL whose last action is 202:
-- the first of `path` are refused.
local function accepted(chain, path, refused)
  local count = {}
  for _, r in ipairs(chain.endpoint:requests()) do
    if r.path == path then count[r.body] = (count[r.body] or -refused) + 1 end
  end
  return count
end

-- How many never arrived at one of the URLs, and how often one was called
-- again that had accepted.
local function account(chain)
  local missing, again = 0, 0
  for _, url in ipairs { { "/202", 0 }, { "/503,close,202", 2 } } do
    local count = accepted(chain, url[1], url[2])
    for n = 1, REQUESTS do
      local times = math.max(count[tostring(n)] or 0, 0)
      if times == 0 then missing = missing + 1 end
      again = again + math.max(times - 1, 0)
    end
  end
  return missing, again
end


describe("receive, deliver, receive, deliver", function()
  it("deliver each request to each URL once", function()
    local chain = new_chain(receiver)
    post_all(chain, function() end)
    settle(chain)
    assert.same({ 0, 0 }, { account(chain) })
    for i = 1, 4 do assert.is_true(chain[i].process:kill "TERM" <= 1) end
  end)

  it("lose nothing when they are killed at random", function()
    local seed = helper.seed
    local function random(n)
      seed = (seed * 16807 + 11) % 2147483647
      return seed % n + 1
    end
    local chain, kills = new_chain(receiver, 1), 0
    post_all(chain, function()
      if kills == KILLS or random(2) == 1 then return end
      kills = kills + 1
      restart(chain[random(4)])
    end)
    while kills < KILLS do
      kills = kills + 1
      restart(chain[random(4)])
    end
    settle(chain)
    local missing, again = account(chain)
    assert.equal(0, missing, "missing, with RESPOOL_SEED=" .. helper.seed)
    -- A killed deliverer does not know what became of the last tenth of a
    -- second and of what it had in hand.
    assert.is_true(again < REQUESTS, again .. " were sent again")
  end)

  it("lose what is answered before it is committed", function()
    local chain = new_chain(careless_receiver)
    post_all(chain, function() end)
    restart(chain[1])
    settle(chain)
    assert.is_true(account(chain) > 0)
  end)
end)
