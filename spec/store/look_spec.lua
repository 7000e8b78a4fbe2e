-- SPDX-License-Identifier: MIT
--
-- What can be seen of a queue without taking from it, what is removed by
-- hand, and that the figures agree.

local helper = require "spec.helper"
local range, payloads, code = helper.range, helper.payloads, helper.code

local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue "orders")
end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

local function reopen()
  local location = store.path
  assert(store:close())
  store = assert(helper.open(location, { clock = "manual" }))
  q = assert(store:queue "orders")
end

local function take(n)
  return assert(q:take { limit = n or 1 })
end

local function done(n)
  local batch = take(n)
  batch:done()
  assert(batch:settle())
end

-- pushed = unsettled + done + died + expired + removed (I5).
local function assert_balanced(stats)
  assert.equal(stats.pushed, stats.ready + stats.leased + stats.scheduled
    + stats.retrying + stats.done + stats.died + stats.expired + stats.removed)
end

describe("peeking", function()
  it("shows what a take would give: priorities, then due, then fresh",
    function()
    q:push_many { "a", "b", "c" }
    q:push("high", { priority = 5 })
    local batch = take(2)
    batch:release()
    batch:settle()
    take()
    assert.same({ "a", "b", "c" }, payloads(q:peek(9)))
    assert.same({ "a", "b" }, payloads(q:peek(2)))
    assert.same({ "a", "b", "c" }, { take():item(1).payload,
      take():item(1).payload, take():item(1).payload })
  end)

  it("passes over what is leased and what waits", function()
    q:push_many { "leased", "next" }
    q:push("later", { delay = 10 })
    take()
    assert.same({ "next" }, payloads(q:peek(9)))
    store:advance(10)
    assert.same({ "later", "next" }, payloads(q:peek(9)))
  end)

  it("delivers nothing", function()
    q:push "a"
    for _ = 1, 3 do assert.equal(0, q:peek()[1].deliveries) end
    assert.equal(0, q:stats().delivered)
    assert.equal(1, take():item(1).deliveries)
  end)

  it("finds nothing in an empty queue", function()
    assert.same({}, q:peek(5))
  end)
end)

describe("getting an item", function()
  it("tells its state and when that ends", function()
    q:push("a", { ttl = 500, priority = 3 })
    local item = q:get(1)
    assert.equal("ready", item.state)
    assert.equal(3, item.priority)
    assert.near(store:now() + 500, item.expires_at, 0.01)
    local batch = take()
    assert.equal("leased", q:get(1).state)
    assert.near(store:now() + 30, q:get(1).visible_at, 0.01)
    batch:retry { delay = 8, error = "busy" }
    batch:settle()
    item = q:get(1)
    assert.equal("retrying", item.state)
    assert.near(store:now() + 8, item.visible_at, 0.01)
    assert.equal("busy", item.error)
    assert.same({ 1, 1, 0 }, { item.attempts, item.deliveries, item.crashes })
  end)

  it("answers NOT_FOUND for what is gone and what never was", function()
    q:push "a"
    done()
    assert.equal("NOT_FOUND", code(q:get(1)))
    assert.equal("NOT_FOUND", code(q:get(2)))
    assert.equal("NOT_FOUND", code(q:get(2^53)))
  end)
end)

describe("removing an item", function()
  it("takes it out of the line, and only it", function()
    q:push_many(range(5))
    assert(q:remove(3))
    assert(q:remove(1))
    assert.same({ 2, 4, 5 }, payloads(q:peek(9)))
    assert.equal(2, q:stats().removed)
    done(9)
    assert.equal(3, q:stats().done)
    assert_balanced(q:stats())
  end)

  it("works on one that waits", function()
    q:push_many({ 1, 2, 3 }, { delay = 10 })
    assert(q:remove(2))
    store:advance(10)
    assert.same({ 1, 3 }, payloads(q:peek(9)))
  end)

  it("answers BUSY while it is leased, not once that ran out", function()
    q:push_many { 1, 2 }
    local batch = take(2)
    assert.equal("BUSY", code(q:remove(1)))
    store:advance(31)
    assert(q:remove(1))
    batch:done()
    assert.equal("LEASE_LOST", code(batch:settle()))
    assert_balanced(q:stats())
  end)

  it("leaves no dead letter", function()
    q:push(1)
    q:remove(1)
    assert.equal(0, q.dead:count())
  end)
end)

describe("browsing", function()
  before_each(function()
    for priority = 0, 2 do
      q:push_many(range(150), { priority = priority })
      q:push_many(range(30), { priority = priority, delay = 10 })
    end
    local batch = take(120)
    for i = 1, 120, 3 do batch:item(i):retry { delay = 50 } end
    for i = 2, 120, 3 do batch:item(i):done() end
    batch:settle()
  end)

  local function count(state)
    local ids, n = {}, 0
    for item in q:each { state = state } do
      assert.is_nil(ids[item.id])
      assert.equal(state or item.state, item.state)
      ids[item.id], n = true, n + 1
    end
    return n
  end

  it("sees every item of a state once", function()
    assert.equal(330, count "ready")
    assert.equal(40, count "leased")
    assert.equal(130, count "scheduled" + count "retrying")
    assert.equal(500, count())
  end)

  -- A page that ended with the last item of a claim, or of a priority, let the
  -- next claim or priority be passed over.
  it("misses nothing where one page ends and the next begins", function()
    q:purge()
    for i = 1, 205 do q:push(i, { delay = 10 }) end
    for priority = 0, 2 do q:push_many(range(100), { priority = priority }) end
    assert.equal(205, count "scheduled")
    assert.equal(300, count "ready")
  end)

  it("agrees with the length by state", function()
    store:advance(10)
    local length = q:length()
    for _, state in ipairs { "ready", "leased", "scheduled", "retrying" } do
      assert.equal(length[state], count(state))
    end
    assert.equal(420, length.ready)
  end)
end)

describe("purging", function()
  it("removes all but what is leased, which can be settled", function()
    q:push_many(range(6000))
    q:push_many(range(10), { delay = 60 })
    local batch = take(10)
    assert.equal(6000, q:purge())
    assert.same({ ready = 0, leased = 10, scheduled = 0, retrying = 0,
                  dead = 0, total = 10 },
                q:length())
    batch:done()
    assert.is_true(batch:settle())
    assert.equal(0, q:stats().bytes)
    assert_balanced(q:stats())
  end)

  it("leaves dead letters where they are", function()
    q:push(1)
    local batch = take()
    batch:dead()
    batch:settle()
    assert.equal(0, q:purge())
    assert.equal(1, q.dead:count())
  end)
end)

describe("figures (H9, I5)", function()
  local function live()
    store:queue("orders", { max_attempts = 2, max_crashes = 1 })
    q:push_many(range(10))
    q:push("late", { delay = 60 })
    q:push("old", { ttl = 5, priority = 1, delay = 1 })
    local batch = take(6)
    batch:item(1):done()
    batch:item(2):dead()
    batch:item(3):drop()
    batch:item(4):retry { delay = 90 }
    batch:item(5):snooze(90)
    batch:item(6):release()
    batch:settle()
    store:advance(10)
    take() -- buries the expired one
    q:remove(9)
  end

  it("count every event", function()
    live()
    local stats = q:stats()
    assert.same(
      { pushed = 12, done = 1, died = 1, expired = 1, removed = 2,
        delivered = 7, retried = 1, released = 1, snoozed = 1, crashed = 0,
        ready = 3, leased = 1, scheduled = 2, retrying = 1, dead = 2 },
      { pushed = stats.pushed, done = stats.done, died = stats.died,
        expired = stats.expired, removed = stats.removed,
        delivered = stats.delivered, retried = stats.retried,
        released = stats.released, snoozed = stats.snoozed,
        crashed = stats.crashed, ready = stats.ready, leased = stats.leased,
        scheduled = stats.scheduled, retrying = stats.retrying,
        dead = stats.dead })
    assert_balanced(stats)
  end)

  it("are the same right after the store was opened again (I5)", function()
    live()
    reopen() -- what was leased is released
    local before, at = q:stats(), store:now()
    reopen()
    store:advance(at - store:now())
    assert.same(before, q:stats())
  end)

  it("tell when something is next due, and the oldest item", function()
    assert.is_nil(q:stats().next_due)
    q:push("a", { delay = 60 })
    q:push("b", { delay = 20 })
    assert.near(store:now() + 20, q:stats().next_due, 0.01)
    assert.is_nil(q:stats().oldest)
    q:push "c"
    local pushed = store:now()
    store:advance(5)
    q:push "d"
    assert.near(pushed, q:stats().oldest, 0.01)
  end)

  it("turn with time alone: due items are ready", function()
    q:push_many({ 1, 2 }, { delay = 10 })
    q:push_many { 3, 4, 5 }
    take(3)
    assert.same({ 0, 3, 2 }, { q:length().ready, q:length().leased,
                               q:length().scheduled })
    store:advance(31)
    assert.same({ 5, 0, 0 }, { q:length().ready, q:length().leased,
                               q:length().scheduled })
  end)
end)
