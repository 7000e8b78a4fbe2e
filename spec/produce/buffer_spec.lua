-- SPDX-License-Identifier: MIT
--
-- Buffered pushes: what flushes them, what flush() promises, and what becomes
-- of them when a flush fails or memory runs short.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local payloads = helper.payloads

local huge = math.huge
local NEVER = { items = huge, bytes = huge, interval = 3600 }

local store, q

-- Opens the queue with a buffer that only the triggers given here flush.
local function queue(triggers, options)
  q = assert(store:queue("orders", queue_of.buffered(triggers, options)))
  return q
end

local function push(n)
  for i = 1, n do assert.is_true(q:push(tostring(i))) end
end

local function ready()
  return q:length().ready
end

local function flushes()
  local list = {}
  for reason, n in pairs(q:stats().buffer.flushes) do
    if n > 0 then list[reason] = n end
  end
  return list
end

before_each(function() store = helper.store() end)

describe("a buffered queue", function()
  it("keeps pushes in memory until a flush", function()
    queue()
    push(3)
    assert.equal(0, ready())
    assert.equal(3, q:stats().buffer.items)
    assert.is_true(q:flush())
    assert.equal(3, ready())
    assert.equal(0, q:stats().buffer.items)
  end)

  it("keeps the order of pushes over many flushes", function()
    queue { items = 7 }
    push(100)
    assert(q:flush())
    local list = payloads(q)
    for i = 1, 100 do assert.equal(tostring(i), list[i]) end
  end)

  it("flushes at so many items", function()
    queue { items = 3 }
    push(2)
    assert.equal(0, ready())
    push(1)
    assert.equal(3, ready())
    assert.same({ items = 1 }, flushes())
  end)

  it("flushes at so many bytes", function()
    queue { bytes = 10 }
    assert(q:push "12345")
    assert.equal(0, ready())
    assert(q:push "67890")
    assert.equal(2, ready())
    assert.same({ bytes = 1 }, flushes())
  end)

  it("flushes at so many pushes", function()
    queue { pushes = 2 }
    push(2)
    assert.equal(2, ready())
    assert.same({ pushes = 1 }, flushes())
  end)

  it("flushes an interval after the first item, not the last", function()
    queue { interval = 10 }
    push(1)
    store:advance(9)
    push(1)
    assert.equal(0, ready())
    store:advance(1)
    assert.equal(2, ready())
    assert.same({ interval = 1 }, flushes())
  end)

  it("begins the interval anew after every flush", function()
    queue { interval = 10, items = 2 }
    push(1)
    store:advance(9)
    push(1)
    assert.equal(2, ready())
    push(1)
    store:advance(9)
    assert.equal(2, ready())
    store:advance(1)
    assert.equal(3, ready())
    assert.same({ interval = 1, items = 1 }, flushes())
  end)

  it("counts a flush by hand, and none that had nothing to do", function()
    queue()
    assert(q:flush())
    push(1)
    assert(q:flush())
    assert.same({ manual = 1 }, flushes())
    assert.equal(1, q:stats().flushes.manual)
  end)

  it("has the triggers that the manual tells", function()
    q = assert(store:queue("orders", { codec = "raw", buffer = {} }))
    push(499)
    assert.equal(0, ready())
    push(1)
    assert.equal(500, ready())
    push(1)
    store:advance(0.2)
    assert.equal(501, ready())
    assert(q:push(("x"):rep(2^20)))
    assert.same({ items = 1, interval = 1, bytes = 1 }, flushes())
  end)

  it("is flushed by its store", function()
    queue()
    push(2)
    local other = assert(store:queue("others", { buffer = NEVER }))
    assert(other:push "x")
    assert.is_true(store:flush())
    assert.equal(2, ready())
    assert.equal(1, other:length().ready)
  end)

  it("is flushed when the store is closed", function()
    local location = helper.location()
    store = assert(helper.open(location))
    queue()
    push(3)
    assert.is_true(store:close())
    store = assert(helper.open(location))
    assert.equal(3, store:queue "orders":length().ready)
  end)

  it("is flushed when its handle is collected", function()
    queue()
    push(3)
    q = nil
    collectgarbage()
    collectgarbage()
    assert.equal(3, store:queue "orders":length().ready)
  end)

  it("flushes in the background", function()
    store = assert(helper.open(helper.location()))
    queue { interval = 0.01 }
    push(3)
    assert.equal(3, #assert(q:take { limit = 3, timeout = 20 }))
  end)

  it("is a barrier for what the background has in hand", function()
    store = assert(helper.open(helper.location(), { sync = "relaxed" }))
    queue { items = 10, interval = 0.001 }
    for _ = 1, 50 do
      push(25)
      assert.is_true(q:flush())
      assert.equal(0, q:stats().buffer.items)
    end
    assert.equal(50 * 25, ready())
  end)

  -- os.exit closes nothing unless it is asked to.
  it("is flushed when the process ends by os.exit", function()
    local path = helper.location()
    local process = helper.spawn([[
      local respool = require "respool"
      local store = assert(respool.open(arg[1]))
      local queue = assert(store:queue("clicks", { buffer = { items = 99 } }))
      for i = 1, 5 do assert(queue:push(i)) end
      os.exit(3)
    ]], path)
    assert.equal(3, process:wait())
    assert.equal("", process:output())
    local clicks = assert(helper.open(path)):queue "clicks"
    assert.same({ 1, 2, 3, 4, 5 }, helper.payloads(clicks))
  end)

  it("loses what was not flushed when the process is killed, no more",
     function()
    local location = helper.location()
    local process = helper.spawn([[
      local respool = require "respool"
      local store = assert(respool.open(arg[1]))
      local q = assert(store:queue("orders", { buffer = {
        items = math.huge, bytes = math.huge, interval = 3600 } }))
      for i = 1, 10 do assert(q:push(i)) end
      assert(q:flush())
      for i = 1, 10 do assert(q:push(i)) end
      io.write "pushed\n"
      io.flush()
      while true do q:peek() end
    ]], location)
    process:expect "pushed"
    process:kill()
    store = assert(helper.open(location))
    assert.equal(10, store:queue "orders":length().ready)
  end)

  it("cannot be used once its store is closed", function()
    queue()
    push(1)
    assert.is_true(store:close())
    assert.error_matches(function() q:push "x" end, "closed queue")
    assert.error_matches(function() q:flush() end, "closed queue")
  end)
end)

describe("a buffered push", function()
  it("takes priority, ttl, headers and key", function()
    queue()
    assert(q:push("low", { headers = { n = 1 } }))
    assert(q:push("high", { priority = 9, ttl = 5 }))
    assert(q:push("one", { key = "k", on_conflict = "ignore" }))
    assert(q:push("two", { key = "k", on_conflict = "ignore" }))
    assert(q:flush())
    local items = q:peek(9)
    assert.equal(3, #items)
    assert.equal("high", items[1].payload)
    assert.near(store:now() + 5, items[1].expires_at, 0.01)
    assert.same({ n = 1 }, items[2].headers)
    assert.equal("k", items[3].key)
    assert.equal("one", items[3].payload)
  end)

  it("replaces by key at the flush", function()
    queue()
    assert(q:push("one", { key = "k", on_conflict = "replace" }))
    assert(q:push("two", { key = "k", on_conflict = "replace" }))
    assert(q:flush())
    assert.same({ "two" }, payloads(q))
  end)

  it("counts a delay from the push", function()
    queue()
    assert(q:push("soon", { delay = 5 }))
    assert(q:push("later", { delay = 15 }))
    store:advance(10)
    assert(q:flush())
    assert.same({ 1, 1 }, { ready(), q:length().scheduled })
    store:advance(4.9)
    assert.equal(1, ready())
    store:advance(0.1)
    assert.equal(2, ready())
  end)

  -- They counted from the flush, and the item was delivered, however long
  -- after the push that was.
  it("counts a ttl from the push", function()
    queue()
    assert(q:push("short", { ttl = 2 }))
    store:advance(1)
    assert(q:push("as short", { ttl = 2 }))
    assert(q:push("long", { ttl = 2000 }))
    store:advance(1.5)
    assert(q:flush())
    assert.same({ "as short", "long" }, payloads(q:take { limit = 3 }))
    assert.same({ short = "expired" }, helper.reasons(q.dead))
  end)

  it("is new to the queue's own ttl at the flush", function()
    queue(nil, { ttl = 2 })
    push(1)
    store:advance(5)
    assert(q:flush())
    assert.equal(1, #q:take())
  end)

  it("keeps pushes of one delay together, and their times apart", function()
    queue()
    for i = 1, 20 do
      assert(q:push(tostring(i), { delay = 1 }))
      store:advance(0.1)
    end
    assert(q:flush())
    assert.same({ 11, 9 }, { ready(), q:length().scheduled })
  end)

  it("cannot fail at a key, so it wants to know what else to do", function()
    queue()
    for _, options in ipairs { { key = "k" },
                               { key = "k", on_conflict = "fail" } } do
      assert.error_matches(function() q:push("x", options) end,
                           "'key' needs 'on_conflict' \"ignore\"")
    end
  end)

  it("refuses what a push refuses, at once", function()
    queue(nil, { validate = function(p) assert(p ~= "bad", "bad payload") end })
    assert.error_matches(function() q:push() end, "a payload expected")
    assert.error_matches(function() q:push(5) end, "must be a string")
    assert.error_matches(function() q:push "bad" end, "bad payload")
    assert.error_matches(function() q:push("x", { prio = 1 }) end,
                         "unknown option 'prio'")
    assert.equal(0, q:stats().buffer.pushed)
  end)

  it("refuses the same without a check", function()
    queue()
    assert.error_matches(function() q:push() end, "a payload expected")
    assert.error_matches(function() q:push(5) end, "must be a string")
    queue(nil, { codec = "cbor" })
    assert.error_matches(function() q:push(print) end, "function")
    assert.error_matches(function() q:push() end, "a payload expected")
    assert.equal(0, q:stats().buffer.pushed)
  end)

  it("refuses an item over max_item_bytes", function()
    store = helper.store { max_item_bytes = 100 }
    queue()
    local ok, message, code = q:push(("x"):rep(101))
    assert.is_nil(ok)
    assert.is_string(message)
    assert.equal("TOO_LARGE", code)
    assert.is_true(q:push(("x"):rep(100)))
  end)

  it("encodes as its queue does", function()
    queue(nil, { codec = "cbor" })
    assert(q:push { a = { 1, 2 } })
    assert(q:flush())
    assert.same({ a = { 1, 2 } }, q:peek()[1].payload)
    queue(nil, { codec = {
      name = "upper", encode = string.upper, decode = string.lower } })
    assert(q:push "abc")
    assert(q:flush())
    assert.equal("ABC", q:peek(2)[2].bytes)
  end)

  it("copies what it is given", function()
    queue(nil, { codec = "cbor" })
    local payload = { 1 }
    assert(q:push(payload))
    payload[1] = 2
    assert(q:flush())
    assert.same({ 1 }, q:peek()[1].payload)
  end)

  it("may come in lists", function()
    queue { items = 4 }
    assert.same({ true, 5 }, { q:push_many { "a", "b", "c", "d", "e" } })
    assert.equal(4, ready())
  end)
end)

describe("a buffer that is full", function()
  local LITTLE = { max_buffered_bytes = 2000 }
  local LARGE = ("x"):rep(100) -- ten and more of them, and not twenty

  local function push_bytes(n)
    for _ = 1, n do assert.is_true(q:push(LARGE)) end
  end

  it("makes room by a flush of its own", function()
    queue(LITTLE)
    push_bytes(20)
    assert.is_true(ready() >= 10)
    assert.same({ bytes = 1 }, flushes())
  end)

  it("refuses pushes while it cannot be flushed", function()
    store = helper.store { max_bytes = "2MiB" }
    queue(LITTLE, { max_items = 0 })
    local n = 0
    while n < 20 and q:push(LARGE) do n = n + 1 end
    local ok, message, code = q:push(LARGE)
    assert.is_nil(ok)
    assert.matches("is full: queue 'orders' is full: max_items", message)
    assert.equal("FULL", code)
    assert.equal(n, q:stats().buffer.items)
    assert.is_true(n >= 10)
  end)

  it("takes an item that is larger than the buffer, by itself", function()
    queue { max_buffered_bytes = 10 }
    for i = 1, 3 do
      assert.is_true(q:push(LARGE))
      assert.equal(i - 1, ready())
    end
  end)

  it("lets a push wait, and go when its time is over", function()
    queue(LITTLE, { max_items = 0 })
    push_bytes(10)
    local ok, _, code = q:push(("x"):rep(2000), { timeout = 5 })
    assert.is_nil(ok)
    assert.equal("TIMEOUT", code)
  end)

  it("lets a push wait for the consumer that makes room", function()
    store = assert(helper.open(helper.location(), { sync = "relaxed" }))
    queue({ items = 2, max_buffered_bytes = 1000 }, { overflow = "wait" })
    for i = 1, 200 do assert.is_true(q:push(("%09d"):format(i))) end
    assert(q:flush())
    assert.equal(200, ready())
  end)

  it("tells how many of a list it took", function()
    queue(LITTLE, { max_items = 0 })
    local half = ("x"):rep(500)
    local ok, _, code, taken = q:push_many { half, half, half, half }
    assert.is_nil(ok)
    assert.equal("FULL", code)
    assert.equal(2, taken)
  end)

  it("drops the oldest, or buries, as the queue's overflow says", function()
    queue(LITTLE, { max_items = 2, overflow = "dead" })
    push_bytes(25)
    assert(q:flush())
    assert.same({ 2, 23 }, { ready(), q.dead:count() })
    assert.equal("overflow", q.dead:oldest().reason)
  end)
end)

describe("pushes of a handler", function()
  it("do not pass by the buffer", function()
    local work = assert(store:queue "work")
    queue()
    assert(work:push "x")
    work:work(function(_, item) item:push(q, "made") end,
              { stop_when_empty = true })
    assert.same({ "made" }, payloads(q))
    assert.equal(0, q:stats().buffer.pushed)
  end)
end)

describe("respool", function()
  it("keeps every buffered push of a long random day", function()
    store = helper.store { seed = helper.seed }
    math.randomseed(helper.seed)
    queue({ items = 20, bytes = 500, interval = 1 }, { max_items = 5000 })
    local pushed = 0
    for _ = 1, 2000 do
      pushed = pushed + 1
      assert(q:push(("%d:"):format(pushed) .. ("x"):rep(math.random(0, 40))))
      if math.random(10) == 1 then store:advance(math.random()) end
      if math.random(50) == 1 then assert(q:flush()) end
    end
    assert(q:flush())
    local list = payloads(q)
    assert.equal(pushed, #list)
    for i, payload in ipairs(list) do
      assert.equal(i, tonumber(payload:match "^%d+"))
    end
    assert.same({}, store:check())
  end)
end)
