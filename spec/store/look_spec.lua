-- SPDX-License-Identifier: MIT
--
-- Looking at a queue without taking from it, removing by hand, and that the
-- figures agree.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local range, payloads, code = helper.range, helper.payloads, helper.code

local t

before_each(function() t = queue_of.new() end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

-- pushed = unsettled + done + died + expired + removed (I5).
local function assert_balanced(stats)
  assert.equal(stats.pushed, stats.ready + stats.leased + stats.scheduled
    + stats.retrying + stats.done + stats.died + stats.expired + stats.removed)
end

describe("peeking", function()
  it("shows what a take would give: priorities, then due, then fresh",
    function()
    t.q:push_many { "a", "b", "c" }
    t.q:push("high", { priority = 5 })
    local batch = t:take(2)
    batch:release()
    batch:settle()
    t:take()
    assert.same({ "a", "b", "c" }, payloads(t.q:peek(9)))
    assert.same({ "a", "b" }, payloads(t.q:peek(2)))
    assert.same({ "a", "b", "c" }, { t:take():item(1).payload,
      t:take():item(1).payload, t:take():item(1).payload })
  end)

  it("passes over what is leased and what waits", function()
    t.q:push_many { "leased", "next" }
    t.q:push("later", { delay = 10 })
    t:take()
    assert.same({ "next" }, payloads(t.q:peek(9)))
    t.store:advance(10)
    assert.same({ "later", "next" }, payloads(t.q:peek(9)))
  end)

  it("delivers nothing", function()
    t.q:push "a"
    for _ = 1, 3 do assert.equal(0, t.q:peek()[1].deliveries) end
    assert.equal(0, t.q:stats().delivered)
    assert.equal(1, t:take():item(1).deliveries)
  end)

  it("finds nothing in an empty queue", function()
    assert.same({}, t.q:peek(5))
  end)
end)

describe("getting an item", function()
  it("tells its state and when that ends", function()
    t.q:push("a", { ttl = 500, priority = 3 })
    local item = t.q:get(1)
    assert.equal("ready", item.state)
    assert.equal(3, item.priority)
    assert.near(t.store:now() + 500, item.expires_at, 0.01)
    local batch = t:take()
    assert.equal("leased", t.q:get(1).state)
    assert.near(t.store:now() + 30, t.q:get(1).visible_at, 0.01)
    batch:retry { delay = 8, error = "busy" }
    batch:settle()
    item = t.q:get(1)
    assert.equal("retrying", item.state)
    assert.near(t.store:now() + 8, item.visible_at, 0.01)
    assert.equal("busy", item.error)
    assert.same({ 1, 1, 0 }, { item.attempts, item.deliveries, item.crashes })
  end)

  it("answers NOT_FOUND for what is gone and what never was", function()
    t.q:push "a"
    t:done()
    assert.equal("NOT_FOUND", code(t.q:get(1)))
    assert.equal("NOT_FOUND", code(t.q:get(2)))
    assert.equal("NOT_FOUND", code(t.q:get(2^53)))
  end)
end)

describe("removing an item", function()
  it("takes it out of the line, and only it", function()
    t.q:push_many(range(5))
    assert(t.q:remove(3))
    assert(t.q:remove(1))
    assert.same({ 2, 4, 5 }, payloads(t.q:peek(9)))
    assert.equal(2, t.q:stats().removed)
    t:done(9)
    assert.equal(3, t.q:stats().done)
    assert_balanced(t.q:stats())
  end)

  it("works on one that waits", function()
    t.q:push_many({ 1, 2, 3 }, { delay = 10 })
    assert(t.q:remove(2))
    t.store:advance(10)
    assert.same({ 1, 3 }, payloads(t.q:peek(9)))
  end)

  it("answers BUSY while it is leased, not once that ran out", function()
    t.q:push_many { 1, 2 }
    local batch = t:take(2)
    assert.equal("BUSY", code(t.q:remove(1)))
    t.store:advance(31)
    assert(t.q:remove(1))
    batch:done()
    assert.equal("LEASE_LOST", code(batch:settle()))
    assert_balanced(t.q:stats())
  end)

  it("leaves no dead letter", function()
    t.q:push(1)
    t.q:remove(1)
    assert.equal(0, t.q.dead:count())
  end)
end)

describe("browsing", function()
  before_each(function()
    for priority = 0, 2 do
      t.q:push_many(range(150), { priority = priority })
      t.q:push_many(range(30), { priority = priority, delay = 10 })
    end
    local batch = t:take(120)
    for i = 1, 120, 3 do batch:item(i):retry { delay = 50 } end
    for i = 2, 120, 3 do batch:item(i):done() end
    batch:settle()
  end)

  local function count(state)
    local ids, n = {}, 0
    for item in t.q:each { state = state } do
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
    t.q:purge()
    for i = 1, 205 do t.q:push(i, { delay = 10 }) end
    for priority = 0, 2 do
      t.q:push_many(range(100), { priority = priority })
    end
    assert.equal(205, count "scheduled")
    assert.equal(300, count "ready")
  end)

  it("agrees with the length by state", function()
    t.store:advance(10)
    local length = t.q:length()
    for _, state in ipairs { "ready", "leased", "scheduled", "retrying" } do
      assert.equal(length[state], count(state))
    end
    assert.equal(420, length.ready)
  end)
end)

describe("purging", function()
  it("removes all but what is leased, which can be settled", function()
    t.q:push_many(range(6000))
    t.q:push_many(range(10), { delay = 60 })
    local batch = t:take(10)
    assert.equal(6000, t.q:purge())
    assert.same({ ready = 0, leased = 10, scheduled = 0, retrying = 0,
                  dead = 0, total = 10 },
                t.q:length())
    batch:done()
    assert.is_true(batch:settle())
    assert.equal(0, t.q:stats().bytes)
    assert_balanced(t.q:stats())
  end)

  it("leaves dead letters where they are", function()
    t.q:push(1)
    local batch = t:take()
    batch:dead()
    batch:settle()
    assert.equal(0, t.q:purge())
    assert.equal(1, t.q.dead:count())
  end)
end)

describe("statistics", function()
  local function live()
    t.store:queue("orders", { max_attempts = 2, max_crashes = 1 })
    t.q:push_many(range(10))
    t.q:push("late", { delay = 60 })
    t.q:push("old", { ttl = 5, priority = 1, delay = 1 })
    local batch = t:take(6)
    batch:item(1):done()
    batch:item(2):dead()
    batch:item(3):drop()
    batch:item(4):retry { delay = 90 }
    batch:item(5):snooze(90)
    batch:item(6):release()
    batch:settle()
    t.store:advance(10)
    t:take() -- buries the expired one
    t.q:remove(9)
  end

  it("count every event", function()
    live()
    local stats = t.q:stats()
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

  it("are the same right after the store was opened again", function()
    live()
    t:reopen() -- what was leased is released
    local before, at = t.q:stats(), t.store:now()
    t:reopen()
    t.store:advance(at - t.store:now())
    assert.same(before, t.q:stats())
  end)

  it("tell when something is next due, and the oldest item", function()
    assert.is_nil(t.q:stats().next_due)
    t.q:push("a", { delay = 60 })
    t.q:push("b", { delay = 20 })
    assert.near(t.store:now() + 20, t.q:stats().next_due, 0.01)
    assert.is_nil(t.q:stats().oldest)
    t.q:push "c"
    local pushed = t.store:now()
    t.store:advance(5)
    t.q:push "d"
    assert.near(pushed, t.q:stats().oldest, 0.01)
  end)

  it("turn with time alone: due items are ready", function()
    t.q:push_many({ 1, 2 }, { delay = 10 })
    t.q:push_many { 3, 4, 5 }
    t:take(3)
    assert.same({ 0, 3, 2 }, { t.q:length().ready, t.q:length().leased,
                               t.q:length().scheduled })
    t.store:advance(31)
    assert.same({ 5, 0, 0 }, { t.q:length().ready, t.q:length().leased,
                               t.q:length().scheduled })
  end)
end)
