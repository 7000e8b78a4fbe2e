-- SPDX-License-Identifier: MIT
--
-- Time: what is not to be delivered yet, and what is not to be delivered any
-- more.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local payloads, reasons = helper.payloads, helper.reasons

local t

before_each(function() t = queue_of.new() end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

describe("an item with a delay", function()
  it("comes when it is over, not before", function()
    t.q:push("a", { delay = 10 })
    t.store:advance(9.999)
    assert.equal(0, #t:take())
    assert.equal("scheduled", t.q:get(1).state)
    t.store:advance(0.001)
    assert.same({ "a" }, payloads(t:take()))
  end)

  it("comes by its due time, whatever was pushed first", function()
    for _, delay in ipairs { 30, 10, 20, 40 } do
      t.q:push(delay, { delay = delay })
    end
    t.store:advance(30)
    assert.same({ 10, 20, 30 }, payloads(t:take(9)))
  end)

  it("comes in order with those of the same push", function()
    local list = {}
    for i = 1, 3000 do list[i] = i end
    t.q:push_many(list, { delay = 5 })
    t.store:advance(5)
    assert.same(list, payloads(t:take(3000)))
  end)

  it("comes at once when that is none", function()
    t.q:push("a", { delay = 0 })
    t.q:push("b", { at = t.store:now() - 100 })
    assert.same({ "a", "b" }, payloads(t:take(9)))
  end)

  it("comes at the time it is scheduled for", function()
    local at = t.store:now() + 3600
    t.q:push("a", { at = at })
    assert.near(at, t.q:get(1).visible_at, 0.001)
    t.store:advance(3599)
    assert.equal(0, #t:take())
    t.store:advance(1)
    assert.equal(1, #t:take())
  end)

  it("does not keep others waiting (guarantee 4)", function()
    t.q:push("late", { delay = 1e6, priority = 9 })
    t.q:push "now"
    assert.same({ "now" }, payloads(t:take(9)))
  end)

  it("keeps its due time when the store is opened again", function()
    t.q:push("a", { delay = 50 })
    local due = t.q:get(1).visible_at
    t:reopen()
    t.store:advance(due - t.store:now() - 0.01)
    assert.equal(0, #t:take())
    t.store:advance(0.01)
    assert.equal(1, #t:take())
  end)
end)

describe("an item with a time to live", function()
  it("dies when that is over while it is ready", function()
    t.q:push("a", { ttl = 10 })
    t.q:push "b"
    t.store:advance(10)
    assert.same({ "b" }, payloads(t:take(9)))
    assert.same({ a = "expired" }, reasons(t.q.dead))
    local dead_letter = t.q.dead:oldest()
    assert.same({ 0, 0 }, { dead_letter.attempts, dead_letter.deliveries })
    assert.near(t.store:now(), dead_letter.died_at, 0.01)
    assert.equal(1, t.q:stats().expired)
    assert.equal(0, t.q:stats().died)
  end)

  it("is delivered up to then", function()
    t.q:push("a", { ttl = 10 })
    t.store:advance(9.9)
    assert.near(t.store:now() + 0.1, t:take():item(1).expires_at, 0.01)
  end)

  it("dies while it is waiting, with what it went through", function()
    t.q:push("a", { ttl = 100 })
    local batch = t:take()
    batch:retry { delay = 60, error = "down" }
    batch:settle()
    t.store:advance(60)
    batch = t:take()
    batch:retry { delay = 60, error = "still down" }
    batch:settle()
    t.store:advance(60)
    assert.equal(0, #t:take())
    local dead_letter = t.q.dead:oldest()
    assert.same({ "expired", 2, 2, "still down" }, { dead_letter.reason,
      dead_letter.attempts, dead_letter.deliveries, dead_letter.error })
  end)

  -- Items of one segment that expired together all got the history of the
  -- first of them, and its counts.
  it("dies with its own history, not with its neighbour's", function()
    t.q:push_many({ "a", "b" }, { ttl = 10 })
    local batch = t:take()
    batch:retry { delay = 100, error = "of a" }
    batch:settle()
    t.store:advance(10)
    t.q:push "c"
    assert.same({ "c" }, payloads(t:take(9)))
    local died = {}
    for dead_letter in t.q.dead:each() do
      died[dead_letter.payload] = dead_letter
    end
    local a, b = died.a, died.b
    assert.same({ 1, 1, "of a" }, { a.attempts, a.deliveries, a.error })
    assert.same({ 0, 0 }, { b.attempts, b.deliveries, b.error })
  end)

  -- Takes looked for what is due or fresh only, so what expired long before
  -- its delay was over stayed, counted as waiting, until then.
  it("dies at the next take though its delay is longer", function()
    t.q:push("a", { ttl = 10, delay = 1e6 })
    t.store:advance(11)
    assert.equal(0, #t:take())
    assert.same({ a = "expired" }, reasons(t.q.dead))
    assert.equal(0, t.q:length().total)
  end)

  it("lives on while it is leased, and may be done", function()
    t.q:push_many({ "a", "b" }, { ttl = 10 })
    local batch = t:take(2)
    t.store:advance(20)
    assert.equal(0, #t:take())
    batch:done()
    assert.is_true(batch:settle())
    assert.same({ 2, 0 }, { t.q:stats().done, t.q:stats().expired })
  end)

  -- Looking passed over all that was past its time, held or not.
  it("can be looked at as long as it is leased", function()
    t.q:push("a", { ttl = 10 })
    local batch = t:take()
    t.store:advance(20)
    assert.equal("leased", assert(t.q:get(1)).state)
    local n = 0
    for _ in t.q:each { state = "leased" } do n = n + 1 end
    assert.equal(#batch, n)
  end)

  it("dies when its lease ends, however that ends", function()
    for i, ending in ipairs { "retry", "release", "crash" } do
      t.q:push(ending, { ttl = 10, priority = i })
    end
    local batch = t:take(3)
    batch:item(2):release()
    batch:item(3):retry { delay = 0 }
    batch:settle()
    t.store:advance(31)
    assert.equal(0, #t:take(9))
    assert.equal(0, #t:take(9))
    assert.same({ retry = "expired", release = "expired", crash = "expired" },
                reasons(t.q.dead))
    assert.equal(0, t.q:length().total)
  end)

  it("is dropped where the queue says so", function()
    t:queue { on_expire = "drop" }
    t.q:push_many({ 1, 2, 3 }, { ttl = 10 })
    t.store:advance(10)
    assert.equal(0, #t:take())
    assert.same({ 0, 0, 3 },
                { t.q.dead:count(), t.q:length().total, t.q:stats().expired })
    assert.equal(0, t.q:stats().bytes)
  end)

  it("has the queue's, if it does not bring its own", function()
    t:queue { ttl = 10 }
    t.q:push "short"
    t.q:push("long", { ttl = 50 })
    t.q:push("for ever", { ttl = math.huge })
    t.store:advance(10)
    assert.same({ "long", "for ever" }, payloads(t:take(9)))
    t.store:advance(31)
    t:take(9) -- what crashed comes by halves
    t.store:advance(31)
    t:take(9)
    t:take(9)
    assert.same({ short = "expired", long = "expired" }, reasons(t.q.dead))
  end)

  it("of nothing is never delivered", function()
    t.q:push("a", { ttl = 0 })
    assert.equal(0, #t:take())
    assert.same({ a = "expired" }, reasons(t.q.dead))
  end)

  it("is counted from the push, not from the due time", function()
    t.q:push("a", { ttl = 30, delay = 20 })
    t.store:advance(20)
    assert.near(10, t:take():item(1).expires_at - t.store:now(), 0.01)
  end)
end)

describe("items that expired", function()
  it("make room for what is behind them, however many", function()
    local list = {}
    for i = 1, 20000 do list[i] = i end
    t.q:push_many(list, { ttl = 10 })
    t.q:push "alive"
    t.store:advance(10)
    assert.same({ "alive" }, payloads(t:take(9)))
    for _ = 1, 20 do t:take() end
    assert.same({ 20000, 20000 }, { t.q:stats().expired, t.q.dead:count() })
  end)

  it("are cleaned up behind a priority that always has something", function()
    t.q:push_many({ 1, 2, 3 }, { ttl = 10 })
    t.q:push_many({ 4, 5, 6 }, { priority = 1 })
    t.store:advance(10)
    t:take()
    assert.equal(3, t.q.dead:count())
  end)

  it("count no more against the bound of the queue", function()
    t:queue { max_items = 2 }
    t.q:push_many({ 1, 2 }, { ttl = 10 })
    t.store:advance(10)
    t:take()
    assert(t.q:push_many { 3, 4 })
  end)
end)
