-- SPDX-License-Identifier: MIT
--
-- Buffered pushes: what flushes them, what flush() promises, and what becomes
-- of them when a flush fails or memory runs short.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local payloads = helper.payloads

local t

before_each(function() t = queue_of.in_store() end)

describe("a buffered queue", function()
  it("keeps pushes in memory until a flush", function()
    t:buffered()
    t:push(3)
    assert.equal(0, t:ready())
    assert.equal(3, t.q:stats().buffer.items)
    assert.is_true(t.q:flush())
    assert.equal(3, t:ready())
    assert.equal(0, t.q:stats().buffer.items)
  end)

  it("keeps the order of pushes over many flushes", function()
    t:buffered { items = 7 }
    t:push(100)
    assert(t.q:flush())
    local list = payloads(t.q)
    for i = 1, 100 do assert.equal(tostring(i), list[i]) end
  end)

  it("flushes at so many items", function()
    t:buffered { items = 3 }
    t:push(2)
    assert.equal(0, t:ready())
    t:push(1)
    assert.equal(3, t:ready())
    assert.same({ items = 1 }, t:flushes())
  end)

  it("flushes at so many bytes", function()
    t:buffered { bytes = 10 }
    assert(t.q:push "12345")
    assert.equal(0, t:ready())
    assert(t.q:push "67890")
    assert.equal(2, t:ready())
    assert.same({ bytes = 1 }, t:flushes())
  end)

  it("flushes at so many pushes", function()
    t:buffered { pushes = 2 }
    t:push(2)
    assert.equal(2, t:ready())
    assert.same({ pushes = 1 }, t:flushes())
  end)

  it("flushes an interval after the first item, not the last", function()
    t:buffered { interval = 10 }
    t:push(1)
    t.store:advance(9)
    t:push(1)
    assert.equal(0, t:ready())
    t.store:advance(1)
    assert.equal(2, t:ready())
    assert.same({ interval = 1 }, t:flushes())
  end)

  it("begins the interval anew after every flush", function()
    t:buffered { interval = 10, items = 2 }
    t:push(1)
    t.store:advance(9)
    t:push(1)
    assert.equal(2, t:ready())
    t:push(1)
    t.store:advance(9)
    assert.equal(2, t:ready())
    t.store:advance(1)
    assert.equal(3, t:ready())
    assert.same({ interval = 1, items = 1 }, t:flushes())
  end)

  it("counts a flush by hand, and none that had nothing to do", function()
    t:buffered()
    assert(t.q:flush())
    t:push(1)
    assert(t.q:flush())
    assert.same({ manual = 1 }, t:flushes())
    assert.equal(1, t.q:stats().flushes.manual)
  end)

  it("has the triggers that the manual tells", function()
    t.q = assert(t.store:queue("orders", { codec = "raw", buffer = {} }))
    t:push(499)
    assert.equal(0, t:ready())
    t:push(1)
    assert.equal(500, t:ready())
    t:push(1)
    t.store:advance(0.2)
    assert.equal(501, t:ready())
    assert(t.q:push(("x"):rep(2^20)))
    assert.same({ items = 1, interval = 1, bytes = 1 }, t:flushes())
  end)

  it("is flushed by its store", function()
    t:buffered()
    t:push(2)
    local other = assert(t.store:queue("others", {
      buffer = queue_of.buffered().buffer,
    }))
    assert(other:push "x")
    assert.is_true(t.store:flush())
    assert.equal(2, t:ready())
    assert.equal(1, other:length().ready)
  end)

  it("is flushed when the store is closed", function()
    local location = helper.location()
    t.store = assert(helper.open(location))
    t:buffered()
    t:push(3)
    assert.is_true(t.store:close())
    t.store = assert(helper.open(location))
    assert.equal(3, t.store:queue "orders":length().ready)
  end)

  it("is flushed when its handle is collected", function()
    t:buffered()
    t:push(3)
    t.q = nil
    collectgarbage()
    collectgarbage()
    assert.equal(3, t.store:queue "orders":length().ready)
  end)

  it("flushes in the background", function()
    t.store = assert(helper.open(helper.location()))
    t:buffered { interval = 0.01 }
    t:push(3)
    local n = 0 -- they may come in several flushes
    repeat
      local batch = assert(t.q:take { limit = 3, timeout = 60 })
      n = n + #batch
    until n >= 3 or #batch == 0
    assert.equal(3, n)
  end)

  it("is a barrier for what the background has in hand", function()
    t.store = assert(helper.open(helper.location(), { sync = "relaxed" }))
    t:buffered { items = 10, interval = 0.001 }
    for _ = 1, 50 do
      t:push(25)
      assert.is_true(t.q:flush())
      assert.equal(0, t.q:stats().buffer.items)
    end
    assert.equal(50 * 25, t:ready())
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
    t.store = assert(helper.open(location))
    assert.equal(10, t.store:queue "orders":length().ready)
  end)

  it("cannot be used once its store is closed", function()
    t:buffered()
    t:push(1)
    assert.is_true(t.store:close())
    assert.error_matches(function() t.q:push "x" end, "closed queue")
    assert.error_matches(function() t.q:flush() end, "closed queue")
  end)
end)

describe("a buffered push", function()
  it("takes priority, ttl, headers and key", function()
    t:buffered()
    assert(t.q:push("low", { headers = { n = 1 } }))
    assert(t.q:push("high", { priority = 9, ttl = 5 }))
    assert(t.q:push("one", { key = "k", on_conflict = "ignore" }))
    assert(t.q:push("two", { key = "k", on_conflict = "ignore" }))
    assert(t.q:flush())
    local items = t.q:peek(9)
    assert.equal(3, #items)
    assert.equal("high", items[1].payload)
    assert.near(t.store:now() + 5, items[1].expires_at, 0.01)
    assert.same({ n = 1 }, items[2].headers)
    assert.equal("k", items[3].key)
    assert.equal("one", items[3].payload)
  end)

  it("replaces by key at the flush", function()
    t:buffered()
    assert(t.q:push("one", { key = "k", on_conflict = "replace" }))
    assert(t.q:push("two", { key = "k", on_conflict = "replace" }))
    assert(t.q:flush())
    assert.same({ "two" }, payloads(t.q))
  end)

  it("counts a delay from the push", function()
    t:buffered()
    assert(t.q:push("soon", { delay = 5 }))
    assert(t.q:push("later", { delay = 15 }))
    t.store:advance(10)
    assert(t.q:flush())
    assert.same({ 1, 1 }, { t:ready(), t.q:length().scheduled })
    t.store:advance(4.9)
    assert.equal(1, t:ready())
    t.store:advance(0.1)
    assert.equal(2, t:ready())
  end)

  -- They counted from the flush, and the item was delivered, however long
  -- after the push that was.
  it("counts a ttl from the push", function()
    t:buffered()
    assert(t.q:push("short", { ttl = 2 }))
    t.store:advance(1)
    assert(t.q:push("as short", { ttl = 2 }))
    assert(t.q:push("long", { ttl = 2000 }))
    t.store:advance(1.5)
    assert(t.q:flush())
    assert.same({ "as short", "long" }, payloads(t.q:take { limit = 3 }))
    assert.same({ short = "expired" }, helper.reasons(t.q.dead))
  end)

  it("is new to the queue's own ttl at the flush", function()
    t:buffered(nil, { ttl = 2 })
    t:push(1)
    t.store:advance(5)
    assert(t.q:flush())
    assert.equal(1, #t.q:take())
  end)

  it("keeps pushes of one delay together, and their times apart", function()
    t:buffered()
    for i = 1, 20 do
      assert(t.q:push(tostring(i), { delay = 1 }))
      t.store:advance(0.1)
    end
    assert(t.q:flush())
    assert.same({ 11, 9 }, { t:ready(), t.q:length().scheduled })
  end)

  it("cannot fail at a key, so it wants to know what else to do", function()
    t:buffered()
    for _, options in ipairs { { key = "k" },
                               { key = "k", on_conflict = "fail" } } do
      assert.error_matches(function() t.q:push("x", options) end,
                           "'key' needs 'on_conflict' \"ignore\"")
    end
  end)

  it("refuses what a push refuses, at once", function()
    t:buffered(nil, {
      validate = function(p) assert(p ~= "bad", "bad payload") end,
    })
    assert.error_matches(function() t.q:push() end, "a payload expected")
    assert.error_matches(function() t.q:push(5) end, "must be a string")
    assert.error_matches(function() t.q:push "bad" end, "bad payload")
    assert.error_matches(function() t.q:push("x", { prio = 1 }) end,
                         "unknown option 'prio'")
    assert.equal(0, t.q:stats().buffer.pushed)
  end)

  it("refuses the same without a check", function()
    t:buffered()
    assert.error_matches(function() t.q:push() end, "a payload expected")
    assert.error_matches(function() t.q:push(5) end, "must be a string")
    t:buffered(nil, { codec = "cbor" })
    assert.error_matches(function() t.q:push(print) end, "function")
    assert.error_matches(function() t.q:push() end, "a payload expected")
    assert.equal(0, t.q:stats().buffer.pushed)
  end)

  it("refuses an item over max_item_bytes", function()
    t.store = helper.store { max_item_bytes = 100 }
    t:buffered()
    local ok, message, code = t.q:push(("x"):rep(101))
    assert.is_nil(ok)
    assert.is_string(message)
    assert.equal("TOO_LARGE", code)
    assert.is_true(t.q:push(("x"):rep(100)))
  end)

  it("encodes as its queue does", function()
    t:buffered(nil, { codec = "cbor" })
    assert(t.q:push { a = { 1, 2 } })
    assert(t.q:flush())
    assert.same({ a = { 1, 2 } }, t.q:peek()[1].payload)
    t:buffered(nil, { codec = {
      name = "upper", encode = string.upper, decode = string.lower } })
    assert(t.q:push "abc")
    assert(t.q:flush())
    assert.equal("ABC", t.q:peek(2)[2].bytes)
  end)

  it("copies what it is given", function()
    t:buffered(nil, { codec = "cbor" })
    local payload = { 1 }
    assert(t.q:push(payload))
    payload[1] = 2
    assert(t.q:flush())
    assert.same({ 1 }, t.q:peek()[1].payload)
  end)

  it("may come in lists", function()
    t:buffered { items = 4 }
    assert.same({ true, 5 }, { t.q:push_many { "a", "b", "c", "d", "e" } })
    assert.equal(4, t:ready())
  end)
end)

describe("a buffer that is full", function()
  local LITTLE = { max_buffered_bytes = 2000 }
  local LARGE = ("x"):rep(100) -- ten and more of them, and not twenty

  local function push_bytes(n)
    for _ = 1, n do assert.is_true(t.q:push(LARGE)) end
  end

  it("makes room by a flush of its own", function()
    t:buffered(LITTLE)
    push_bytes(20)
    assert.is_true(t:ready() >= 10)
    assert.same({ bytes = 1 }, t:flushes())
  end)

  it("refuses pushes while it cannot be flushed", function()
    t.store = helper.store { max_bytes = "2MiB" }
    t:buffered(LITTLE, { max_items = 0 })
    local n = 0
    while n < 20 and t.q:push(LARGE) do n = n + 1 end
    local ok, message, code = t.q:push(LARGE)
    assert.is_nil(ok)
    assert.matches("is full: queue 'orders' is full: max_items", message)
    assert.equal("FULL", code)
    assert.equal(n, t.q:stats().buffer.items)
    assert.is_true(n >= 10)
  end)

  it("takes an item that is larger than the buffer, by itself", function()
    t:buffered { max_buffered_bytes = 10 }
    for i = 1, 3 do
      assert.is_true(t.q:push(LARGE))
      assert.equal(i - 1, t:ready())
    end
  end)

  it("lets a push wait, and go when its time is over", function()
    t:buffered(LITTLE, { max_items = 0 })
    push_bytes(10)
    local ok, _, code = t.q:push(("x"):rep(2000), { timeout = 5 })
    assert.is_nil(ok)
    assert.equal("TIMEOUT", code)
  end)

  it("lets a push wait for the consumer that makes room", function()
    t.store = assert(helper.open(helper.location(), { sync = "relaxed" }))
    t:buffered({ items = 2, max_buffered_bytes = 1000 }, { overflow = "wait" })
    for i = 1, 200 do assert.is_true(t.q:push(("%09d"):format(i))) end
    assert(t.q:flush())
    assert.equal(200, t:ready())
  end)

  it("tells how many of a list it took", function()
    t:buffered(LITTLE, { max_items = 0 })
    local half = ("x"):rep(500)
    local ok, _, code, taken = t.q:push_many { half, half, half, half }
    assert.is_nil(ok)
    assert.equal("FULL", code)
    assert.equal(2, taken)
  end)

  it("drops the oldest, or buries, as the queue's overflow says", function()
    t:buffered(LITTLE, { max_items = 2, overflow = "dead" })
    push_bytes(25)
    assert(t.q:flush())
    assert.same({ 2, 23 }, { t:ready(), t.q.dead:count() })
    assert.equal("overflow", t.q.dead:oldest().reason)
  end)
end)

describe("pushes of a handler", function()
  it("do not pass by the buffer", function()
    local work = assert(t.store:queue "work")
    t:buffered()
    assert(work:push "x")
    work:work(function(_, item) item:push(t.q, "made") end,
              { stop_when_empty = true })
    assert.same({ "made" }, payloads(t.q))
    assert.equal(0, t.q:stats().buffer.pushed)
  end)
end)

describe("respool", function()
  it("keeps every buffered push of a long random day", function()
    t.store = helper.store { seed = helper.seed }
    math.randomseed(helper.seed)
    t:buffered({ items = 20, bytes = 500, interval = 1 }, { max_items = 5000 })
    local pushed = 0
    for _ = 1, 2000 do
      pushed = pushed + 1
      assert(t.q:push(("%d:"):format(pushed) .. ("x"):rep(math.random(0, 40))))
      if math.random(10) == 1 then t.store:advance(math.random()) end
      if math.random(50) == 1 then assert(t.q:flush()) end
    end
    assert(t.q:flush())
    local list = payloads(t.q)
    assert.equal(pushed, #list)
    for i, payload in ipairs(list) do
      assert.equal(i, tonumber(payload:match "^%d+"))
    end
    assert.same({}, t.store:check())
  end)
end)
