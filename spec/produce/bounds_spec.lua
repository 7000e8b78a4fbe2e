-- SPDX-License-Identifier: MIT
--
-- Bounds: what becomes of a push beyond max_items or
-- max_queue_bytes, and how full a queue says it is.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"

local t

local function push(...)
  for _, payload in ipairs { ... } do assert(t.q:push(payload)) end
end

local function payloads()
  local list = {}
  for _, item in ipairs(assert(t.q:peek(100))) do
    list[#list + 1] = item.payload
  end
  return table.concat(list)
end

before_each(function() t = queue_of.new() end)

-- Whatever a spec did, the store finds nothing wrong with itself, and every
-- item is accounted for.
local plain_it = it
local function it(title, body)
  plain_it(title, function()
    body()
    assert.same({}, t.store:check())
    local s = t.q:stats()
    assert.equal(s.pushed, s.ready + s.leased + s.scheduled + s.retrying
      + s.done + s.died
                 + s.expired + s.removed)
  end)
end

describe("a queue that rejects", function()
  it("refuses a push beyond max_items", function()
    t:queue { max_items = 2 }
    push("a", "b")
    local id, message, code = t.q:push "c"
    assert.is_nil(id)
    assert.equal("queue 'orders' is full: max_items is 2", message)
    assert.equal("FULL", code)
    assert.equal("ab", payloads())
  end)

  it("refuses a push beyond max_queue_bytes", function()
    t:queue { max_queue_bytes = 2000 }
    push(("a"):rep(200))
    local id, message, code = t.q:push(("x"):rep(1850))
    assert.is_nil(id)
    assert.equal("queue 'orders' is full: max_queue_bytes is 2000", message)
    assert.equal("FULL", code)
  end)

  it("takes a list whole or not at all", function()
    t:queue { max_items = 3 }
    push "a"
    local _, _, code = t.q:push_many { "b", "c", "d" }
    assert.equal("FULL", code)
    assert.equal("a", payloads())
    assert(t.q:push_many { "b", "c" })
  end)

  it("counts what is leased and what waits", function()
    t:queue { max_items = 2 }
    assert(t.q:push("a", { delay = 60 }))
    push "b"
    local batch = assert(t.q:take())
    local _, _, code = t.q:push "c"
    assert.equal("FULL", code)
    batch:done()
    assert(batch:settle())
    push "c"
  end)

  it("holds nothing when it may hold nothing", function()
    t:queue { max_items = 0 }
    local _, _, code = t.q:push "a"
    assert.equal("FULL", code)
  end)

  it("lets a push wait until its time is over", function()
    t:queue { max_items = 1 }
    push "a"
    local id, message, code = t.q:push("b", { timeout = 5 })
    assert.is_nil(id)
    assert.equal("queue 'orders' had no room in time", message)
    assert.equal("TIMEOUT", code)
  end)
end)

-- A push that could never fit waited for room for ever; in a buffer, with all
-- that came behind it. The item went on to the dead letters of a queue that
-- buries, which no replay could bring back.
describe("an item that is larger than its queue may be", function()
  local BIG = ("x"):rep(200)
  local POLICIES = { "reject", "drop_oldest", "dead", "wait" }

  local function each_policy(body)
    for _, overflow in ipairs(POLICIES) do
      t.store = assert(helper.open(helper.location(), { sync = "relaxed" }))
      t:queue { max_queue_bytes = 150, overflow = overflow }
      push "a"
      body(overflow)
      assert.equal("a", payloads())
      assert.equal(0, t.q.dead:count())
    end
  end

  it("is TOO_LARGE at once, whatever overflow is", function()
    each_policy(function()
      local id, message, code = t.q:push(BIG)
      assert.is_nil(id)
      assert.matches('^an item that takes %d+ bytes is over max_queue_bytes '
                     .. "of queue 'orders', 150$", message)
      assert.equal("TOO_LARGE", code)
    end)
  end)

  it("is that among others, too", function()
    each_policy(function()
      assert.equal("TOO_LARGE", helper.code(t.q:push_many { "b", BIG, "c" }))
    end)
  end)

  it("is that in a transaction and in a settle", function()
    each_policy(function()
      local jobs = assert(t.store:queue "jobs")
      jobs:push "job"
      local function pushes(tx) tx:push(t.q, BIG) end
      assert.equal("TOO_LARGE", helper.code(t.store:transaction(pushes)))
      local batch = assert(jobs:take())
      batch:done()
      assert.equal("TOO_LARGE", helper.code(batch:settle {
        push = { { queue = t.q, payload = BIG } } }))
      batch:close()
    end)
  end)

  it("is that at a buffer, and keeps nothing behind it", function()
    each_policy(function(overflow)
      assert(t.q:purge())
      local b = assert(t.store:queue("orders", { buffer = {} }))
      assert.equal("TOO_LARGE", helper.code(b:push(BIG)), overflow)
      assert.is_true(b:push "a")
      assert.is_true(b:flush())
    end)
  end)

  it("is that by what it takes, not by its payload alone", function()
    t.store = helper.store { sync = "relaxed" }
    for _, codec in ipairs { "cbor", "raw" } do
      t:queue { max_queue_bytes = 500, codec = codec }
      local b = assert(t.store:queue("orders", { buffer = {}, codec = codec }))
      for size = 400, 500, 3 do
        local _, _, code = t.q:push(("x"):rep(size), { headers = { size } })
        assert.is_true(code == nil or code == "TOO_LARGE")
        assert(t.q:purge())
        local _, _, buffered = b:push(("x"):rep(size), { headers = { size } })
        assert.equal(code, buffered)
        assert(b:flush())
        assert(t.q:purge())
      end
    end
  end)

  it("is that as another handle has bounded the queue since", function()
    t:queue()
    local b = assert(t.store:queue("orders", { buffer = {} }))
    assert(b:push "a")
    assert(t.store:queue("orders", { max_queue_bytes = 150 }))
    assert(b:flush())
    assert.equal("TOO_LARGE", helper.code(b:push(BIG)))
    assert(t.store:queue("orders", { max_queue_bytes = math.huge }))
    assert(b:push(BIG))
    assert(b:flush())
  end)

  it("stays in a buffer that had it before the bound, and says so", function()
    t:queue()
    local b = assert(t.store:queue("orders", { buffer = {} }))
    assert(b:push "a")
    assert(b:push(BIG))
    assert(t.store:queue("orders", { max_queue_bytes = 150 }))
    local ok, message, code = b:flush()
    assert.is_nil(ok)
    assert.matches("over max_queue_bytes", message)
    assert.equal("FULL", code)
    assert.equal("a", payloads())
    assert(t.store:queue("orders", { max_queue_bytes = math.huge }))
    assert(b:flush())
    assert.equal(2, t.q:length().ready)
  end)
end)

describe("a list that the empty queue could not hold", function()
  it("is FULL at once, however long it may wait", function()
    t.store = assert(helper.open(helper.location(), { sync = "relaxed" }))
    t:queue { max_items = 2, overflow = "wait" }
    local first, message, code = t.q:push_many { "a", "b", "c" }
    assert.is_nil(first)
    assert.equal("queue 'orders' is full: max_items is 2, it can never hold "
                 .. '3 at once', message)
    assert.equal("FULL", code)
    local list = { 1, 2, 3 }
    assert.equal("FULL", helper.code(t.q:push_many(list, { timeout = 9 })))
    t:queue { max_items = math.huge, max_queue_bytes = 150 }
    first, message, code = t.q:push_many { ("x"):rep(80), ("y"):rep(80) }
    assert.is_nil(first)
    assert.matches("max_queue_bytes is 150, it can never hold %d+ at once$",
                   message)
    assert.equal("FULL", code)
  end)

  it("is so when that may hold nothing", function()
    t.store = assert(helper.open(helper.location(), { sync = "relaxed" }))
    t:queue { max_items = 0, overflow = "wait" }
    assert.equal("FULL", helper.code(t.q:push "a"))
    assert.equal("FULL", helper.code(t.q:push("a", { timeout = 9 })))
  end)
end)

-- The time that was left was counted by subtracting slices of it; what was
-- left of the sums made one more try that did not wait.
describe("a push whose wait is over", function()
  it("is a TIMEOUT, however long it was", function()
    t.store = assert(helper.open(helper.location(), { sync = "relaxed" }))
    t:queue { max_items = 1, overflow = "wait" }
    push "a"
    for _, wait in ipairs { 0.0001, 0.05, 0.1, 0.2, 0.25, 0.3 } do
      assert.equal("TIMEOUT", helper.code(t.q:push("b", { timeout = wait })))
    end
  end)
end)

-- They stayed until somebody took from the queue: what was full of them took
-- no push, though nothing was in it.
describe("items that have expired in a full queue", function()
  local function fill(n, options)
    local list = {}
    for i = 1, n do list[i] = "old" end
    assert(t.q:push_many(list, options or { ttl = 10 }))
  end

  for _, overflow in ipairs { "reject", "drop_oldest", "dead", "wait" } do
    it("make room before " .. overflow .. " decides", function()
      t:queue { max_items = 3, overflow = overflow }
      fill(2)
      push "a"
      t.store:advance(10)
      push("b", "c")
      assert.equal("abc", payloads())
      assert.equal(2, t.q:stats().expired)
      assert.equal(0, t.q:stats().dropped)
      assert.equal("expired", t.q.dead:oldest().reason)
      assert.equal(2, t.q.dead:count())
    end)
  end

  it("are dropped where the queue says so", function()
    t:queue { max_items = 1, on_expire = "drop" }
    fill(1)
    t.store:advance(10)
    push "a"
    assert.same({ 1, 0 }, { t.q:stats().expired, t.q.dead:count() })
  end)

  it("make room for bytes and for lists, as much as is needed", function()
    t:queue { max_queue_bytes = 30000 }
    for _ = 1, 25 do assert(t.q:push(("x"):rep(1000), { ttl = 10 })) end
    t.store:advance(10)
    assert(t.q:push_many { ("y"):rep(6000), ("y"):rep(6000) })
    assert.is_true(t.q:stats().expired >= 8)
    assert.is_true(t.q:stats().expired < 25)
  end)

  it("make room however many they are", function()
    t.store = helper.store { sync = "relaxed" }
    t:queue { max_items = 5000 }
    for _ = 1, 5000 do assert(t.q:push("old", { ttl = 10 })) end
    t.store:advance(10)
    local list = {}
    for i = 1, 5000 do list[i] = i end
    assert(t.q:push_many(list))
    assert.equal(5000, t.q:stats().expired)
  end)

  it("make room in an ordered queue", function()
    t:queue { max_items = 2, ordered = true }
    fill(2)
    t.store:advance(10)
    push("a", "b")
    assert.equal("ab", payloads())
    assert.equal("a", assert(t.q:take()):item(1).payload)
  end)

  it("make room in a transaction, a settle and a flush", function()
    t:queue { max_items = 1 }
    local jobs = assert(t.store:queue "jobs")
    fill(1)
    t.store:advance(10)
    assert(t.store:transaction(function(tx)
      tx:push(t.q, "a", { ttl = 10 })
    end))
    t.store:advance(10)
    assert(jobs:push "job")
    local batch = assert(jobs:take())
    batch:done()
    assert(batch:settle { push = { { queue = t.q, payload = "b", ttl = 10 } } })
    t.store:advance(10)
    local b = assert(t.store:queue("orders", { buffer = {} }))
    assert(b:push "c")
    assert(b:flush())
    assert.equal("c", payloads())
    assert.equal(3, t.q:stats().expired)
  end)

  it("make none while they are leased, and as soon as they are not",
     function()
    t:queue { max_items = 2, lease = 60 }
    fill(2)
    local batch = assert(t.q:take { limit = 2 })
    t.store:advance(10)
    assert.equal("FULL", helper.code(t.q:push "a"))
    batch:item(1):done()
    assert(batch:settle())
    push "a"
    assert.equal("FULL", helper.code(t.q:push "b"))
    t.store:advance(50) -- the other lease runs out
    push "b"
    assert.equal("ab", payloads())
    assert.equal(1, t.q:stats().expired)
  end)

  it("are ended though the push is refused after all", function()
    t:queue { max_items = 3 }
    fill(1)
    push("a", "b")
    t.store:advance(10)
    assert.equal("FULL", helper.code(t.q:push_many { "c", "d" }))
    assert.equal(1, t.q:stats().expired)
    assert.equal(2, t.q:length().total)
    push "c"
  end)

  -- What else a push does on its way is undone when it is refused.
  it("alone are ended by a push that is refused", function()
    t:queue { max_items = 4, overflow = "drop_oldest" }
    fill(1)
    push("a", "b", "c")
    local batch = assert(t.q:take { limit = 2 })
    assert.equal("old", batch:item(1).payload)
    t.store:advance(10)
    batch:item(1):release()
    assert(batch:settle()) -- "old" is ready again, "a" leased
    assert.equal("FULL", helper.code(t.q:push_many { "d", "e", "f", "g" }))
    assert.equal("bc", payloads())
    assert.equal(0, t.q:stats().dropped)
    batch:close()
  end)

  it("do not take along what a refused push was to replace", function()
    t:queue { max_items = 3 }
    fill(1)
    assert(t.q:push("a", { key = "k" }))
    push "b"
    t.store:advance(10)
    t:queue { max_items = 1 }
    assert.equal("FULL",
      helper.code(t.q:push("c", { key = "k", on_conflict = "replace" })))
    assert.equal("ab", payloads())
    assert.equal(0, t.q:stats().removed)
  end)

  it("stay when the push could not fit anyway", function()
    t:queue { max_items = 1 }
    fill(1)
    t.store:advance(10)
    assert.equal("FULL", helper.code(t.q:push_many { "a", "b" }))
    assert.equal(0, t.q:stats().expired)
  end)
end)

describe("a queue that drops its oldest", function()
  it("makes room for what is new", function()
    t:queue { max_items = 3, overflow = "drop_oldest" }
    push("a", "b", "c", "d", "e")
    assert.equal("cde", payloads())
    assert.equal(2, t.q:stats().dropped)
    assert.equal(2, t.q:stats().removed)
  end)

  it("drops by age, whatever the priority", function()
    t:queue { max_items = 3, overflow = "drop_oldest" }
    assert(t.q:push("a", { priority = 9 }))
    push("b", "c", "d")
    assert.equal("bcd", payloads())
    assert(t.q:push("e", { priority = 9 }))
    push "f"
    assert.equal("edf", payloads())
  end)

  it("makes room for bytes", function()
    t:queue { max_queue_bytes = 400, overflow = "drop_oldest" }
    for i = 1, 20 do
      assert(t.q:push(("%d"):format(i % 10) .. ("x"):rep(99)))
    end
    local stats = t.q:stats()
    assert.is_true(stats.bytes <= 400)
    assert.is_true(stats.ready >= 2)
    assert.equal("0", t.q:peek(9)[stats.ready].payload:sub(1, 1))
  end)

  it("drops as many as a list needs", function()
    t:queue { max_items = 4, overflow = "drop_oldest" }
    push("a", "b", "c", "d")
    assert(t.q:push_many { "e", "f", "g" })
    assert.equal("defg", payloads())
  end)

  it("drops nothing that is leased or waits", function()
    t:queue { max_items = 2, overflow = "drop_oldest" }
    assert(t.q:push("a", { delay = 60 }))
    push "b"
    local batch = assert(t.q:take())
    local _, _, code = t.q:push "c"
    assert.equal("FULL", code)
    batch:release()
    assert(batch:settle())
    assert.equal(2, t.q:length().total)
  end)

  it("refuses a list that could never fit", function()
    t:queue { max_items = 2, overflow = "drop_oldest" }
    push("a", "b")
    local _, _, code = t.q:push_many { "c", "d", "e" }
    assert.equal("FULL", code)
    assert.equal("ab", payloads())
  end)
end)

describe("a queue that buries what is too much", function()
  it("makes dead letters of it, for the reason overflow", function()
    t:queue { max_items = 2, overflow = "dead" }
    push("a", "b")
    assert.equal(3, t.q:push "c")
    assert.equal("ab", payloads())
    local dead_letter = t.q.dead:oldest()
    assert.equal("overflow", dead_letter.reason)
    assert.equal("c", dead_letter.payload)
    assert.equal(3, dead_letter.id)
    assert.equal(1, t.q:stats().died_by.overflow)
  end)

  it("buries lists whole, with their headers and priority", function()
    t:queue { max_items = 2, overflow = "dead" }
    push "a"
    assert(t.q:push_many({ "b", "c" }, { priority = 7, headers = { n = 1 } }))
    assert.equal("a", payloads())
    assert.equal(2, t.q.dead:count())
    assert.equal(7, t.q.dead:oldest().priority)
    assert.same({ n = 1 }, t.q.dead:oldest().headers)
  end)

  it("gets them back by replay", function()
    t:queue { max_items = 1, overflow = "dead" }
    push("a", "b")
    assert(assert(t.q:take()):close())
    assert(t.q:purge())
    assert.equal(1, t.q.dead:replay().moved)
    assert.equal("b", payloads())
  end)
end)

describe("a queue that lets pushes wait", function()
  it("says when there was no room in time", function()
    t:queue { max_items = 1, overflow = "wait" }
    push "a"
    local _, _, code = t.q:push("b", { timeout = 5 })
    assert.equal("TIMEOUT", code)
    _, _, code = t.q:push "b" -- on a manual clock nobody can make room
    assert.equal("TIMEOUT", code)
  end)

  it("does not wait when told so", function()
    t:queue { max_items = 1, overflow = "wait" }
    push "a"
    local _, _, code = t.q:push("b", { timeout = 0 })
    assert.equal("FULL", code)
    _, _, code = t.q:push_many({ "b" }, { timeout = 0 })
    assert.equal("FULL", code)
  end)

  it("goes on when a consumer makes room", function()
    local location = helper.location()
    t.store = assert(helper.open(location, { sync = "relaxed" }))
    t:queue { max_items = 3, overflow = "wait" }
    local process = helper.spawn([[
      local respool = require "respool"
      local store = assert(respool.open(arg[1], { sync = "relaxed" }))
      local n = 0
      assert(store:queue("orders"):work(function() n = n + 1 end,
                                        { batch = 2, limit = 50,
                                          seconds = 30 }))
      io.write(n)
    ]], location)
    for i = 1, 50 do assert(t.q:push(i, { timeout = 30 })) end
    assert.equal(0, process:wait())
    assert.equal("50", process:output())
  end)

  it("is over in time on a real clock too", function()
    t.store = assert(helper.open(helper.location(), { sync = "relaxed" }))
    t:queue { max_items = 1 }
    push "a"
    local _, _, code = t.q:push("b", { timeout = 0.02 })
    assert.equal("TIMEOUT", code)
  end)
end)

describe("a push in a settle", function()
  it("cannot wait", function()
    t:queue()
    push "a"
    local batch = assert(t.q:take())
    assert.error_matches(function()
      batch:settle { push = { { queue = t.q, payload = "b", timeout = 5 } } }
    end, "takes no 'timeout'")
    batch:close()
  end)
end)

describe("a queue's stats", function()
  it("tell how full it is, by the greater measure", function()
    t:queue { max_items = 10 }
    assert.equal(0, t.q:stats().fill)
    push("a", "b", "c")
    assert.equal(0.3, t.q:stats().fill)
    t:queue { max_queue_bytes = 2 * t.q:stats().bytes }
    assert.equal(0.5, t.q:stats().fill)
    assert(t.q:purge())
    assert.equal(0, t.q:stats().fill)
  end)

  it("tell of no fill without a bound", function()
    assert.is_nil(t:queue():stats().fill)
  end)

  it("tell how old the oldest item is", function()
    t:queue()
    assert.equal(0, t.q:stats().oldest_age)
    push "a"
    t.store:advance(5)
    push "b"
    t.store:advance(2)
    assert.near(7, t.q:stats().oldest_age, 1e-6)
    assert.equal(1, #assert(t.q:take()))
    assert.near(2, t.q:stats().oldest_age, 1e-6)
  end)
end)
