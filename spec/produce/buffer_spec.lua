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

-- What lies around a payload was not counted: by pushes that each took a
-- structure of their own a buffer grew to 70 and 700 times its bound.
describe("the memory of a buffer", function()
  local ROOM = 2^18

  local function fill(options, push_one)
    queue({ max_buffered_bytes = ROOM }, options)
    local n = 0
    repeat
      n = n + 1
      local ok = push_one(n)
    until not ok or n > 2 * ROOM
    local b = q:stats().buffer
    assert.is_true(b.memory <= ROOM + 2^10) -- what the last took
    assert.is_true(b.memory > ROOM - 2^11)
    return n - 1, b.bytes
  end

  local NO_ROOM = { max_items = 0 }

  it("is little more than the payloads, where pushes are alike", function()
    local n, bytes = fill(NO_ROOM, function() return q:push(("x"):rep(100)) end)
    assert.equal(n * 100, bytes)
    assert.is_true(bytes > 0.9 * ROOM)
  end)

  it("counts what is around payloads of no bytes", function()
    assert.is_true(fill(NO_ROOM, function() return q:push "" end) <= ROOM)
  end)

  it("counts what priorities, keys and delays take", function()
    local least = ROOM / 200 -- a part has more than 200 bytes
    assert.is_true(least > fill(NO_ROOM, function(i)
      return q:push("x", { priority = i % 2 })
    end))
    assert.is_true(least > fill(NO_ROOM, function(i)
      return q:push("x", { key = tostring(i), on_conflict = "ignore" })
    end))
    assert.is_true(least > fill(NO_ROOM, function(i)
      return q:push("x", { delay = i })
    end))
  end)

  it("counts the names of what may be merged", function()
    local n = fill({
      max_items = 0, merge = {
        key = function(p) return ("k"):rep(100) .. p end,
        with = function(_, new) return new end,
      },
    }, function(i) return q:push(tostring(i)) end)
    assert.is_true(n < ROOM / 200)
  end)

  it("is given back by a flush, to the last byte", function()
    queue(nil, { max_items = 7, merge = {
      key = function(p) return p:match "^k%d*" end,
      with = function(old, new) return old .. new end,
    } })
    for i = 1, 10 do
      assert(q:push("x", { priority = i % 3 }))
      assert(q:push("k" .. i % 4))
      assert(q:push("y", { ttl = i }))
    end
    assert.is_nil(q:flush())
    assert.is_true(q:stats().buffer.memory > 0)
    assert(store:queue("orders", { max_items = huge }))
    assert(q:flush())
    local b = q:stats().buffer
    assert.same({ 0, 0, 0 }, { b.items, b.bytes, b.memory })
  end)
end)

-- A whole flush died when the queue had no room for all of it.
describe("a flush into a queue whose overflow is dead", function()
  it("buries what has no room, and commits the rest", function()
    queue(nil, { max_items = 5, overflow = "dead" })
    push(12)
    assert(q:flush())
    assert.same({ "1", "2", "3", "4", "5" }, payloads(q))
    assert.same({ "6", "7", "8", "9", "10", "11", "12" }, payloads(q.dead))
    assert.same({ manual = 1 }, flushes())
    assert.equal(1, q:stats().flushes.manual)
    assert.same({}, store:check())
  end)

  it("does so by bytes, and for what came before it", function()
    queue(nil, { max_queue_bytes = 1000, overflow = "dead" })
    for i = 1, 40 do
      assert(q:push(("%02d"):format(i) .. ("x"):rep(i % 7 == 0 and 300 or 20)))
    end
    assert(q:push(("y"):rep(900)))
    assert(q:flush())
    assert.equal(41, ready() + q.dead:count())
    assert.is_true(ready() > 10)
    local stats = q:stats()
    assert.is_true(stats.bytes <= 1000)
    assert.is_true(stats.bytes > 900)
    push(1)
    assert(q:flush())
    assert.equal(42, ready() + q.dead:count())
    assert.same({}, store:check())
  end)

  it("leaves a push of many to die as a whole", function()
    local direct = assert(store:queue("direct", {
      max_items = 5, overflow = "dead" }))
    assert(direct:push_many { 1, 2, 3, 4, 5, 6 })
    assert.same({ 0, 6 }, { direct:length().ready, direct.dead:count() })
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
      local batch = assert(q:take { limit = 5 })
      for payload in batch:each() do
        seen[#seen + 1] = tonumber(payload:sub(1, 2))
        assert.equal(2 + (#seen % 10 == 0 and 20000 or #seen), #payload)
      end
      batch:done()
      assert(batch:settle())
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

  -- Only a push on the handle of the buffer itself told, and close().
  describe("in the background is told by", function()
    local told, other

    before_each(function()
      told = {}
      store = helper.store { on_error = function(e) table.insert(told, e) end }
      queue({ interval = 1 }, { max_items = 2 })
      other = assert(store:queue "others")
      push(3)
      store:advance(1)
      assert.same({}, told)
    end)

    local function is_told_by(what, call)
      it(what, function()
        call()
        assert.equal(1, #told)
        assert.equal("buffer", told[1].where)
        assert.equal("FULL", told[1].code)
        assert.matches("queue 'orders' .* max_items is 2", told[1].message)
      end)
    end

    is_told_by("a push to its queue", function() assert(q:push "x") end)
    is_told_by("a push to another", function() assert(other:push "x") end)
    is_told_by("many pushes to another",
               function() assert(other:push_many { "x" }) end)
    is_told_by("a flush of another", function() assert(other:flush()) end)
    is_told_by("a take", function() assert(other:take()) end)
    is_told_by("work", function()
      assert(other:work(error, { stop_when_empty = true }))
    end)
    is_told_by("each round of work", function()
      assert(other:push_many { 1, 2 })
      told = {}
      local seen = {}
      assert(other:work(function()
        table.insert(seen, #told)
        if #told == 0 then store:advance(0.15) end
      end, { batch = 1, timeout = 0 }))
      assert.same({ 0, 1 }, seen)
    end)
    is_told_by("maintain", function() assert(store:maintain()) end)
    is_told_by("health", function() store:health() end)
    is_told_by("the stats of a queue", function() assert(other:stats()) end)
    is_told_by("the stats of the store", function() assert(store:stats()) end)
    is_told_by("metrics", function() assert(store:metrics()) end)

    it("a close, with those before it", function()
      store:advance(0.1)
      assert.is_nil(store:close())
      assert.equal(2, #told)
      assert.matches("^3 flushes of queue", told[1].message)
      assert.equal("close", told[2].where)
    end)

    it("nobody twice", function()
      store:stats()
      store:health()
      assert.equal(1, #told)
    end)

    it("on_error that closes the store, and work ends", function()
      store.on_error = function() store:close() end
      local counts, _, code, so_far = other:work(error, { timeout = 0 })
      assert.same({ nil, "FULL", 0 }, { counts, code, so_far.items })
      assert.is_true(store.handle:closed())
    end)
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
  refuses({ interval = "1x" }, "buffer: option 'interval' must be ")
  refuses({ max_buffered_bytes = huge }, "option 'max_buffered_bytes' must be")
  refuses({ items = huge, bytes = huge, interval = huge },
          "has no trigger")

  -- The queue was there, with its new policy, when the buffer was refused.
  it("is looked at before the queue is made", function()
    local none = { items = huge, bytes = huge, interval = huge }
    assert.has_error(function()
      store:queue("neu", { max_attempts = 7, buffer = none })
    end)
    assert.has_error(function()
      store:queue("neu", { merge = { key = tostring, with = math.max } })
    end)
    assert.same({}, store:queues())
  end)

  -- It raised a line of ours.
  it("takes counts that are never reached for math.huge", function()
    queue { items = 2^60, pushes = 2^60, interval = 1 }
    push(3)
    store:advance(1)
    assert.equal(3, ready())
    assert.error_matches(function()
      queue { items = 2^60, bytes = huge, interval = huge }
    end, "has no trigger")
  end)
end)

-- What the buffer of a collected handle could not flush was lost, and nobody
-- was told: flush() and close() returned true.
describe("a buffered queue that is collected", function()
  local told

  local function collect()
    q = nil
    collectgarbage()
    collectgarbage()
  end

  before_each(function()
    told = {}
    store = helper.store { on_error = function(e) table.insert(told, e) end }
    queue(nil, { max_items = 2 })
    push(5)
    collect()
  end)

  local function take_all()
    local batch = assert(q:take { limit = 9 })
    batch:done()
    assert(batch:settle())
    return #batch
  end

  it("leaves what has no room to its store", function()
    q = assert(store:queue "orders")
    assert.equal(2, ready())
    local b = store:health().components.buffers.orders
    assert.equal(3, b.items)
    assert.equal("degraded", b.status)
    assert.matches('respool_buffered_items{queue="orders"} 3', store:metrics())
  end)

  it("is tried again as time passes", function()
    q = assert(store:queue("orders", { codec = "raw" }))
    assert.equal(2, take_all())
    store:advance(0.1)
    assert.same({ "3", "4" }, payloads(q:take { limit = 9 }))
  end)

  it("is flushed by its store, until nothing is left", function()
    q = assert(store:queue "orders")
    local ok, _, code = store:flush()
    assert.is_nil(ok)
    assert.equal("FULL", code)
    take_all()
    assert.is_nil(store:flush())
    take_all()
    assert.is_true(store:flush())
    assert.equal(1, take_all())
    assert.is_nil(store:health().components.buffers)
    assert.equal(5, q:stats().pushed)
  end)

  it("tells on_error", function()
    assert(store:stats())
    assert.equal(1, #told)
    assert.matches("queue 'orders' .* max_items is 2", told[1].message)
  end)

  it("is counted by the close of its store", function()
    local ok, message, code, left = store:close()
    assert.is_nil(ok)
    assert.matches("max_items is 2", message)
    assert.equal("FULL", code)
    assert.equal(3, left.buffered)
  end)

  it("is no burden once it is empty", function()
    assert(store:queue("orders", { max_items = huge }))
    assert.is_true(store:flush())
    for _ = 1, 20 do
      queue()
      push(1)
      collect()
    end
    assert.same({}, store.handle:buffers())
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
