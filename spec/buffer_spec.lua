-- SPDX-License-Identifier: MIT
--
-- Buffered pushes: what flushes them, what flush() promises, and what becomes
-- of them when a flush fails or memory runs short.

local helper = require "spec.helper"
local payloads = helper.payloads

local huge = math.huge
local NEVER = { items = huge, bytes = huge, interval = 3600 }

local store, q

-- Opens the queue with a buffer that only the triggers given here flush.
local function queue(buffer, options)
  local all, triggers = { codec = "raw" }, {}
  for name, value in pairs(NEVER) do triggers[name] = value end
  for name, value in pairs(buffer or {}) do triggers[name] = value end
  for name, value in pairs(options or {}) do all[name] = value end
  all.buffer = triggers
  q = assert(store:queue("orders", all))
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
    assert.same({ hand = 1 }, flushes())
    assert.equal(1, q:stats().flushes.hand)
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
    assert.equal(3, #assert(q:take { items = 3, wait = 20 }))
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

  it("counts a delay from the flush", function()
    queue()
    assert(q:push("later", { delay = 5 }))
    store:advance(10)
    assert(q:flush())
    assert.equal(1, q:length().waiting)
    store:advance(5)
    assert.equal(1, ready())
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
    queue(nil, { check = function(p) assert(p ~= "bad", "bad payload") end })
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
  local LITTLE = { max_buffered_bytes = 10 } -- ten pushes

  local function push_bytes(n)
    for _ = 1, n do assert.is_true(q:push "x") end
  end

  it("makes room by a flush of its own", function()
    queue(LITTLE)
    push_bytes(11)
    assert.equal(10, ready())
    assert.same({ bytes = 1 }, flushes())
  end)

  it("refuses pushes while it cannot be flushed", function()
    store = helper.store { max_bytes = "2MiB" }
    queue(LITTLE, { max_items = 0 })
    push_bytes(10)
    local ok, message, code = q:push "x"
    assert.is_nil(ok)
    assert.matches("is full: queue \"orders\" is full: max_items", message)
    assert.equal("FULL", code)
    assert.equal(10, q:stats().buffer.items)
  end)

  it("lets a push wait, and go when its time is over", function()
    queue(LITTLE, { max_items = 0 })
    push_bytes(10)
    local ok, _, code = q:push("x", { wait = 5 })
    assert.is_nil(ok)
    assert.equal("TIMEOUT", code)
  end)

  it("lets a push wait for the consumer that makes room", function()
    store = assert(helper.open(helper.location(), { sync = "relaxed" }))
    queue({ items = 2, max_buffered_bytes = 20 }, { overflow = "wait" })
    for i = 1, 200 do assert.is_true(q:push(("%09d"):format(i))) end
    assert(q:flush())
    assert.equal(200, ready())
  end)

  it("tells how many of a list it took", function()
    queue(LITTLE, { max_items = 0 })
    local ok, _, code, taken =
      q:push_many { "12345", "67890", "x", "y" }
    assert.is_nil(ok)
    assert.equal("FULL", code)
    assert.equal(2, taken)
  end)

  it("drops the oldest, or buries, as the queue's overflow says", function()
    queue(LITTLE, { max_items = 2, overflow = "dead" })
    push_bytes(25)
    assert(q:flush())
    assert.equal(25, ready() + q.dead:count())
    assert.equal("overflow", q.dead:oldest().reason)
  end)
end)

describe("a flush that fails", function()
  it("keeps its items and says why", function()
    queue(nil, { max_items = 0 })
    push(3)
    local ok, message, code = q:flush()
    assert.is_nil(ok)
    assert.matches("max_items is 0", message)
    assert.equal("FULL", code)
    local b = q:stats().buffer
    assert.equal(3, b.items)
    assert.equal(1, b.failures)
    assert.matches("max_items is 0", b.error)
    assert.equal("FULL", b.code)
    assert.equal(0, ready())
  end)

  it("commits the first of its items, as many as there is room for",
     function()
    queue(nil, { max_items = 4 })
    for i = 1, 3 do assert(q:push(("%d"):format(i), { priority = i })) end
    push(6)
    local ok, _, code = q:flush()
    assert.is_nil(ok)
    assert.equal("FULL", code)
    assert.equal(4, ready())
    assert.equal(5, q:stats().buffer.items)
    assert.equal("1", q:get(4).payload)
  end)

  it("gets a load into a queue that can never hold it whole", function()
    queue(nil, { max_items = 7, max_queue_bytes = "1MiB" })
    for i = 1, 50 do
      local size = i % 10 == 0 and 20000 or i
      assert(q:push(("%02d"):format(i) .. ("x"):rep(size)))
    end
    local seen = {}
    while not q:flush() do
      local lot = assert(q:take { items = 5 })
      for payload in lot:each() do
        seen[#seen + 1] = tonumber(payload:sub(1, 2))
        assert.equal(2 + (#seen % 10 == 0 and 20000 or #seen), #payload)
      end
      lot:done()
      assert(lot:settle())
    end
    assert.equal(50, #seen + ready())
    for i, n in ipairs(seen) do assert.equal(i, n) end
    assert.equal(0, q:stats().buffer.items)
    assert.equal(0, q:stats().buffer.bytes)
    assert.same({}, store:check())
  end)

  it("is tried again, less and less often", function()
    queue({ items = 3 }, { max_items = 2 })
    push(3)
    assert.equal(1, q:stats().buffer.failures)
    store:advance(0.1)
    assert.equal(2, q:stats().buffer.failures)
    store:advance(0.19)
    assert.equal(2, q:stats().buffer.failures)
    store:advance(0.01)
    assert.equal(3, q:stats().buffer.failures)
    assert(store:queue("orders", { max_items = 10 }))
    store:advance(30)
    assert.equal(3, ready())
    assert.is_nil(q:stats().buffer.error)
  end)

  it("holds up nothing that is pushed after it, in order", function()
    queue({ items = 3 }, { max_items = 2 })
    push(5)
    assert(store:queue("orders", { max_items = 10 }))
    assert.is_true(q:flush())
    assert.same({ "1", "2", "3", "4", "5" }, payloads(q))
  end)

  it("is told to on_error, once each time", function()
    local told = {}
    store = helper.store { on_error = function(e) table.insert(told, e) end }
    queue({ items = 3 }, { max_items = 2 })
    push(3)
    assert.equal(1, #told)
    assert.equal("buffer", told[1].where)
    assert.equal("FULL", told[1].code)
    assert.matches("max_items is 2", told[1].message)
    push(1)
    assert.equal(1, #told)
    q:flush()
    assert.equal(2, #told)
  end)

  it("is told by the store that is closed on it", function()
    queue(nil, { max_items = 2 })
    push(3)
    local ok, message, code = store:close()
    assert.is_nil(ok)
    assert.matches("max_items is 2", message)
    assert.equal("FULL", code)
    assert.is_true(store:close())
  end)

  it("is told by the store that is flushed", function()
    queue(nil, { max_items = 2 })
    push(3)
    local other = assert(store:queue("others", { buffer = NEVER }))
    assert(other:push "x")
    local ok, _, code = store:flush()
    assert.is_nil(ok)
    assert.equal("FULL", code)
    assert.equal(1, other:length().ready)
  end)
end)

describe("the option buffer", function()
  local function refuses(options, message)
    it("refuses " .. message, function()
      assert.error_matches(function()
        store:queue("orders", { buffer = options })
      end, message)
    end)
  end

  refuses(true, "option 'buffer' must be a table of options")
  refuses({ size = 1 }, "store:queue: buffer: unknown option 'size'")
  refuses({ items = 0 }, "buffer: option 'items' must be ")
  refuses({ items = 1.5 }, "buffer: option 'items' must be ")
  refuses({ bytes = "much" }, "buffer: option 'bytes' must be ")
  refuses({ pushes = -1 }, "buffer: option 'pushes' must be ")
  refuses({ interval = 0 }, "buffer: option 'interval' must be ")
  refuses({ interval = "1s" }, "buffer: option 'interval' must be ")
  refuses({ max_buffered_bytes = huge }, "option 'max_buffered_bytes' must be")
  refuses({ items = huge, bytes = huge, interval = huge },
          "buffer must be given a trigger")
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
