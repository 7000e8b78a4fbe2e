-- SPDX-License-Identifier: MIT
--
-- Taking: in which order, how much, and under what lease.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local range, payloads, code = helper.range, helper.payloads, helper.code

local t

before_each(function() t = queue_of.new() end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

-- Everything there is, taken in batches of changing size.
local function drain()
  local seen, size = {}, 0
  repeat
    size = size % 7 + 1
    local batch = t:take(size)
    for _, value in ipairs(payloads(batch)) do table.insert(seen, value) end
    batch:done()
    batch:settle()
  until #batch == 0
  return seen
end

describe("priorities", function()
  it("are served highest first, whatever was pushed when", function()
    for _, priority in ipairs { 3, 0, 255, 3, 1 } do
      t.q:push(priority, { priority = priority })
    end
    assert.same({ 255, 3, 3, 1, 0 }, payloads(t:take(9)))
  end)

  it("are left for a higher one as soon as that has something", function()
    t.q:push_many { "low 1", "low 2" }
    assert.same({ "low 1" }, payloads(t:take()))
    t.q:push("high", { priority = 1 })
    assert.same({ "high", "low 2" }, payloads(t:take(9)))
  end)

  it("are kept by items that come back", function()
    t.q:push("high", { priority = 9 })
    t.q:push "low"
    local batch = t:take()
    batch:retry { delay = 10 }
    batch:settle()
    t.store:advance(10)
    assert.same({ "high", "low" }, payloads(t:take(9)))
  end)
end)

describe("order in a priority (guarantee 9)", function()
  it("is that of pushing, over pushes and batches of any size", function()
    for i = 0, 9 do
      local list = {}
      for k = 1, 30 do list[k] = 30 * i + k end
      t.q:push_many(list)
    end
    assert.same(range(300), drain())
  end)

  it("of first deliveries is not changed by what fails", function()
    t.q:push_many(range(20))
    local first = {}
    for _ = 1, 30 do
      local batch = t:take(3)
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
    t.q:push("second", { delay = 20 })
    t.q:push("first", { delay = 10 })
    t.q:push "fresh"
    t.store:advance(30)
    assert.same({ "first", "second", "fresh" }, payloads(t:take(9)))
  end)
end)

describe("a batch", function()
  it("holds items of several pushes", function()
    t.q:push "a"
    t.q:push_many { "b", "c" }
    t.q:push("d", { priority = 1 })
    assert.same({ "d", "a", "b" }, payloads(t:take(3)))
  end)

  it("is bounded by count", function()
    t.q:push_many(range(5000))
    assert.equal(4999, #t:take(4999))
    assert.equal(1, #t:take(4999))
    assert.equal(0, #t:take(4999))
  end)

  it("is bounded by bytes of payload over priorities and claims", function()
    t.q = t.store:queue("orders", { codec = "raw" })
    local kib = ("x"):rep(1024)
    for priority =
      0, 3 do t.q:push_many({ kib, kib }, { priority = priority }) end
    assert.equal(3, #t.q:take { limit = 9, bytes = "3KiB" })
    local batch = t:take(2)
    batch:release()
    batch:settle()
    assert.equal(2, #t.q:take { limit = 9, bytes = 3071 })
    assert.equal(3, #t.q:take { limit = 9, bytes = "1MiB" })
  end)

  it("holds one item at least, however large", function()
    t.q:push_many { ("x"):rep(100), "y", ("x"):rep(300), "z" }
    local sizes = {}
    for i = 1, 3 do sizes[i] = #t.q:take { limit = 9, bytes = 50 } end
    assert.same({ 1, 1, 1 }, sizes)
    assert.equal(1, #t:take(9))
  end)

  -- In a database the counts are told now and then, to the queue of that name.
  it("counts for a queue that is dropped, not for the next of its name",
     function()
    t.q:push "a"
    local batch = t:take(1)
    batch:done()
    assert(batch:settle())
    assert(t.store:drop_queue "orders")
    t:queue {}
    assert.equal(0, t.q:stats().delivered)
    assert.equal(0, t.q:stats().wait.count)
  end)
end)

describe("a lease", function()
  it("keeps its items from all other takes", function()
    t.q:push_many { 1, 2, 3 }
    t:take(2)
    assert.same({ 3 }, payloads(t:take(9)))
    t.store:advance(29.9)
    assert.equal(0, #t:take(9))
  end)

  it("that ran out hands them out again, crashes counted", function()
    t.q:push "a"
    t:take()
    t.store:advance(30)
    local item = t:take():item(1)
    assert.equal("a", item.payload)
    assert.same({ 2, 1, 0 }, { item.deliveries, item.crashes, item.attempts })
    assert.equal(1, t.q:stats().crashed)
  end)

  it("is as long as the take asks", function()
    t.q:push_many { 1, 2 }
    t:take(1, 5)
    t:take(1, 500)
    t.store:advance(5)
    assert.same({ 1 }, payloads(t:take(9)))
    t.store:advance(400)
    assert.same({ 1 }, payloads(t:take(9)))
  end)

  it("ends when extend says, sooner or later", function()
    t.q:push "a"
    local batch = t:take()
    assert.is_true(batch:extend(100))
    t.store:advance(99)
    assert.equal(0, #t:take())
    assert.is_true(batch:extend(3))
    t.store:advance(3)
    assert.equal(1, #t:take())
  end)

  it("is renewed by extend for what is not settled yet", function()
    t.q:push_many { 1, 2 }
    local batch = t:take(2)
    batch:item(1):done()
    batch:settle()
    assert.is_true(batch:extend(100))
    t.store:advance(99)
    assert.equal(0, #t:take())
    assert.equal(1, t.q:length().leased)
  end)
end)

describe("keeping a lease", function()
  before_each(function()
    t.q = t.store:queue("orders", { lease = 10, max_lease = 100 })
    t.q:push "a"
  end)

  it("renews it up to max_lease, then lets it run out", function()
    local batch = t:take()
    batch:keep()
    t.store:advance(100)
    assert.equal(0, #t:take())
    t.store:advance(11)
    assert.equal(1, #t:take())
    assert.equal("LEASE_LOST", code(batch:extend()))
  end)

  it("ends with the batch: another delivery is not kept", function()
    local batch = t:take()
    batch:keep()
    batch:release()
    batch:settle()
    t:take()
    t.store:advance(10)
    assert.equal(1, #t:take())
  end)

  it("ends when the batch is closed unsettled", function()
    local batch = t:take()
    batch:keep()
    assert.is_true(batch:close())
    assert.equal(1, t.q:length().ready)
    t.store:advance(50)
    assert.equal(0, t.q:stats().crashed)
  end)

  it("keeps each of several batches", function()
    t.q:push_many { "b", "c" }
    local batches = { t:take(), t:take(), t:take() }
    batches[1]:keep()
    batches[3]:keep()
    t.store:advance(50)
    assert.same({ "b" }, payloads(t:take(9)))
  end)

  it("keeps a lease as long as the take asked for", function()
    t:take(1, 30):keep()
    t.store:advance(95)
    assert.equal(0, #t:take())
  end)
end)

describe("a token (guarantee 3)", function()
  local stale

  before_each(function()
    t.q:push_many { "a", "b" }
    stale = t:take(2)
    t.store:advance(30)
  end)

  local verbs = {
    done = {}, release = {}, retry = { { delay = 0, error = "late" } },
    dead = { { group = "late" } }, drop = {}, snooze = { 5 },
  }
  for verb, arguments in pairs(verbs) do
    it("that is stale makes " .. verb .. " change nothing", function()
      local batch = t:take(2)
      local before, length = t.q:get(1), t.q:length()
      stale[verb](stale, arguments[1])
      assert.equal("LEASE_LOST", code(stale:settle()))
      assert.equal(2, stale.lost)
      assert.same(before, t.q:get(1))
      assert.same(length, t.q:length())
      assert.equal(2, t.q:stats().lease_lost)
      batch:done()
      assert.is_true(batch:settle())
    end)
  end

  it("that is stale extends nothing", function()
    t:take(2)
    local visible_at = t.q:get(1).visible_at
    assert.equal("LEASE_LOST", code(stale:extend(500)))
    assert.equal(2, stale.lost)
    assert.equal(visible_at, t.q:get(1).visible_at)
  end)

  it("stays stale when the items are free again", function()
    local batch = t:take(2)
    batch:release()
    batch:settle()
    stale:done()
    assert.equal("LEASE_LOST", code(stale:settle()))
    assert.equal(2, t.q:length().total)
  end)

  it("stays stale when the items are gone", function()
    t.q:purge()
    stale:dead()
    assert.equal("LEASE_LOST", code(stale:settle()))
    assert.equal(0, t.q.dead:count())
  end)

  -- Tokens of a queue made anew began at one again.
  it("stays stale when its queue is dropped and made anew", function()
    t.store:drop_queue "orders"
    t.q = t.store:queue "orders"
    t.q:push_many { "a", "b" }
    local batch = t:take(2)
    stale:done()
    assert.is_nil((stale:settle()))
    assert.equal(2, t.q:length().leased)
    batch:done()
    assert.is_true(batch:settle())
  end)

  it("is stale for the whole of a batch that is delivered in part", function()
    t:take(1)
    stale:done()
    assert.equal("LEASE_LOST", code(stale:settle()))
    assert.equal(2, stale.lost)
    assert.equal(2, t.q:length().total)
  end)
end)
