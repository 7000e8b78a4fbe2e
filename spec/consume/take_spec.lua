-- SPDX-License-Identifier: MIT
--
-- Taking: in which order, how much, and under what lease.

local helper = require "spec.helper"
local range, payloads, code = helper.range, helper.payloads, helper.code

local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue "orders")
end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

local function take(n, lease)
  return assert(q:take { limit = n or 1, lease = lease })
end

-- Everything there is, taken in batches of changing size.
local function drain()
  local seen, size = {}, 0
  repeat
    size = size % 7 + 1
    local batch = take(size)
    for _, value in ipairs(payloads(batch)) do table.insert(seen, value) end
    batch:done()
    batch:settle()
  until #batch == 0
  return seen
end

describe("priorities", function()
  it("are served highest first, whatever was pushed when", function()
    for _, priority in ipairs { 3, 0, 255, 3, 1 } do
      q:push(priority, { priority = priority })
    end
    assert.same({ 255, 3, 3, 1, 0 }, payloads(take(9)))
  end)

  it("are left for a higher one as soon as that has something", function()
    q:push_many { "low 1", "low 2" }
    assert.same({ "low 1" }, payloads(take()))
    q:push("high", { priority = 1 })
    assert.same({ "high", "low 2" }, payloads(take(9)))
  end)

  it("are kept by items that come back", function()
    q:push("high", { priority = 9 })
    q:push "low"
    local batch = take()
    batch:retry { delay = 10 }
    batch:settle()
    store:advance(10)
    assert.same({ "high", "low" }, payloads(take(9)))
  end)
end)

describe("order in a priority (guarantee 9)", function()
  it("is that of pushing, over pushes and batches of any size", function()
    for i = 0, 9 do
      local list = {}
      for k = 1, 30 do list[k] = 30 * i + k end
      q:push_many(list)
    end
    assert.same(range(300), drain())
  end)

  it("of first deliveries is not changed by what fails", function()
    q:push_many(range(20))
    local first = {}
    for _ = 1, 30 do
      local batch = take(3)
      for _, item in batch:each() do
        if item.deliveries == 1 then table.insert(first, item.payload) end
        if item.attempts == 0 and item.id % 4 == 0 then
          item:retry { delay = 0 }
        end
      end
      batch:done()
      batch:settle()
    end
    assert.same(range(20), first)
  end)

  it("is by due time for what waited, before what is fresh", function()
    q:push("second", { delay = 20 })
    q:push("first", { delay = 10 })
    q:push "fresh"
    store:advance(30)
    assert.same({ "first", "second", "fresh" }, payloads(take(9)))
  end)
end)

describe("a batch", function()
  it("holds items of several pushes", function()
    q:push "a"
    q:push_many { "b", "c" }
    q:push("d", { priority = 1 })
    assert.same({ "d", "a", "b" }, payloads(take(3)))
  end)

  it("is bounded by count", function()
    q:push_many(range(5000))
    assert.equal(4999, #take(4999))
    assert.equal(1, #take(4999))
    assert.equal(0, #take(4999))
  end)

  it("is bounded by bytes of payload over priorities and claims", function()
    q = store:queue("orders", { codec = "raw" })
    local kib = ("x"):rep(1024)
    for priority =
      0, 3 do q:push_many({ kib, kib }, { priority = priority }) end
    assert.equal(3, #q:take { limit = 9, bytes = "3KiB" })
    local batch = take(2)
    batch:release()
    batch:settle()
    assert.equal(2, #q:take { limit = 9, bytes = 3071 })
    assert.equal(3, #q:take { limit = 9, bytes = "1MiB" })
  end)

  it("holds one item at least, however large", function()
    q:push_many { ("x"):rep(100), "y", ("x"):rep(300), "z" }
    local sizes = {}
    for i = 1, 3 do sizes[i] = #q:take { limit = 9, bytes = 50 } end
    assert.same({ 1, 1, 1 }, sizes)
    assert.equal(1, #take(9))
  end)
end)

describe("a lease", function()
  it("keeps its items from all other takes", function()
    q:push_many { 1, 2, 3 }
    take(2)
    assert.same({ 3 }, payloads(take(9)))
    store:advance(29.9)
    assert.equal(0, #take(9))
  end)

  it("that ran out hands them out again, crashes counted", function()
    q:push "a"
    take()
    store:advance(30)
    local item = take():item(1)
    assert.equal("a", item.payload)
    assert.same({ 2, 1, 0 }, { item.deliveries, item.crashes, item.attempts })
    assert.equal(1, q:stats().crashed)
  end)

  it("is as long as the take asks", function()
    q:push_many { 1, 2 }
    take(1, 5)
    take(1, 500)
    store:advance(5)
    assert.same({ 1 }, payloads(take(9)))
    store:advance(400)
    assert.same({ 1 }, payloads(take(9)))
  end)

  it("ends when extend says, sooner or later", function()
    q:push "a"
    local batch = take()
    assert.is_true(batch:extend(100))
    store:advance(99)
    assert.equal(0, #take())
    assert.is_true(batch:extend(3))
    store:advance(3)
    assert.equal(1, #take())
  end)

  it("is renewed by extend for what is not settled yet", function()
    q:push_many { 1, 2 }
    local batch = take(2)
    batch:item(1):done()
    batch:settle()
    assert.is_true(batch:extend(100))
    store:advance(99)
    assert.equal(0, #take())
    assert.equal(1, q:length().leased)
  end)
end)

describe("keeping a lease", function()
  before_each(function()
    q = store:queue("orders", { lease = 10, max_lease = 100 })
    q:push "a"
  end)

  it("renews it up to max_lease, then lets it run out", function()
    local batch = take()
    batch:keep()
    store:advance(100)
    assert.equal(0, #take())
    store:advance(11)
    assert.equal(1, #take())
    assert.equal("LEASE_LOST", code(batch:extend()))
  end)

  it("ends with the batch: another delivery is not kept", function()
    local batch = take()
    batch:keep()
    batch:release()
    batch:settle()
    take()
    store:advance(10)
    assert.equal(1, #take())
  end)

  it("ends when the batch is closed unsettled", function()
    local batch = take()
    batch:keep()
    assert.is_true(batch:close())
    assert.equal(1, q:length().ready)
    store:advance(50)
    assert.equal(0, q:stats().crashed)
  end)

  it("keeps each of several batches", function()
    q:push_many { "b", "c" }
    local batches = { take(), take(), take() }
    batches[1]:keep()
    batches[3]:keep()
    store:advance(50)
    assert.same({ "b" }, payloads(take(9)))
  end)

  it("keeps a lease as long as the take asked for", function()
    take(1, 30):keep()
    store:advance(95)
    assert.equal(0, #take())
  end)
end)

describe("a token (guarantee 3)", function()
  local stale

  before_each(function()
    q:push_many { "a", "b" }
    stale = take(2)
    store:advance(30)
  end)

  local verbs = {
    done = {}, release = {}, retry = { { delay = 0, error = "late" } },
    dead = { { group = "late" } }, drop = {}, snooze = { 5 },
  }
  for verb, arguments in pairs(verbs) do
    it("that is stale makes " .. verb .. " change nothing", function()
      local batch = take(2)
      local before, length = q:get(1), q:length()
      stale[verb](stale, arguments[1])
      assert.equal("LEASE_LOST", code(stale:settle()))
      assert.equal(2, stale.lost)
      assert.same(before, q:get(1))
      assert.same(length, q:length())
      assert.equal(2, q:stats().lease_lost)
      batch:done()
      assert.is_true(batch:settle())
    end)
  end

  it("that is stale extends nothing", function()
    take(2)
    local visible_at = q:get(1).visible_at
    assert.equal("LEASE_LOST", code(stale:extend(500)))
    assert.equal(2, stale.lost)
    assert.equal(visible_at, q:get(1).visible_at)
  end)

  it("stays stale when the items are free again", function()
    local batch = take(2)
    batch:release()
    batch:settle()
    stale:done()
    assert.equal("LEASE_LOST", code(stale:settle()))
    assert.equal(2, q:length().total)
  end)

  it("stays stale when the items are gone", function()
    q:purge()
    stale:dead()
    assert.equal("LEASE_LOST", code(stale:settle()))
    assert.equal(0, q.dead:count())
  end)

  -- Tokens of a queue made anew began at one again.
  it("stays stale when its queue is dropped and made anew", function()
    store:drop_queue "orders"
    q = store:queue "orders"
    q:push_many { "a", "b" }
    local batch = take(2)
    stale:done()
    assert.is_nil((stale:settle()))
    assert.equal(2, q:length().leased)
    batch:done()
    assert.is_true(batch:settle())
  end)

  it("is stale for the whole of a batch that is handed out in part", function()
    take(1)
    stale:done()
    assert.equal("LEASE_LOST", code(stale:settle()))
    assert.equal(2, stale.lost)
    assert.equal(2, q:length().total)
  end)
end)
