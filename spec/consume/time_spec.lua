-- SPDX-License-Identifier: MIT
--
-- Time: what is not to be delivered yet, and what is not to be delivered any
-- more.

local helper = require "spec.helper"
local payloads, reasons = helper.payloads, helper.reasons

local store, q

local function queue(options)
  q = assert(store:queue("orders", options))
  return q
end

before_each(function()
  store = helper.store()
  queue()
end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

local function take(n)
  return assert(q:take { limit = n or 1 })
end

local function reopen()
  assert(store:close())
  store = assert(helper.open(store.path, { clock = "manual" }))
  queue()
end

describe("an item with a delay", function()
  it("comes when it is over, not before", function()
    q:push("a", { delay = 10 })
    store:advance(9.999)
    assert.equal(0, #take())
    assert.equal("scheduled", q:get(1).state)
    store:advance(0.001)
    assert.same({ "a" }, payloads(take()))
  end)

  it("comes by its due time, whatever was pushed first", function()
    for _, delay in ipairs { 30, 10, 20, 40 } do
      q:push(delay, { delay = delay })
    end
    store:advance(30)
    assert.same({ 10, 20, 30 }, payloads(take(9)))
  end)

  it("comes in order with those of the same push", function()
    local list = {}
    for i = 1, 3000 do list[i] = i end
    q:push_many(list, { delay = 5 })
    store:advance(5)
    assert.same(list, payloads(take(3000)))
  end)

  it("comes at once when that is none", function()
    q:push("a", { delay = 0 })
    q:push("b", { at = store:now() - 100 })
    assert.same({ "a", "b" }, payloads(take(9)))
  end)

  it("comes at the time it is scheduled for", function()
    local at = store:now() + 3600
    q:push("a", { at = at })
    assert.near(at, q:get(1).visible_at, 0.001)
    store:advance(3599)
    assert.equal(0, #take())
    store:advance(1)
    assert.equal(1, #take())
  end)

  it("does not keep others waiting (guarantee 4)", function()
    q:push("late", { delay = 1e6, priority = 9 })
    q:push "now"
    assert.same({ "now" }, payloads(take(9)))
  end)

  it("keeps its due time when the store is opened again", function()
    q:push("a", { delay = 50 })
    local due = q:get(1).visible_at
    reopen()
    store:advance(due - store:now() - 0.01)
    assert.equal(0, #take())
    store:advance(0.01)
    assert.equal(1, #take())
  end)
end)

describe("an item with a time to live", function()
  it("dies when that is over while it is ready", function()
    q:push("a", { ttl = 10 })
    q:push "b"
    store:advance(10)
    assert.same({ "b" }, payloads(take(9)))
    assert.same({ a = "expired" }, reasons(q.dead))
    local dead_letter = q.dead:oldest()
    assert.same({ 0, 0 }, { dead_letter.attempts, dead_letter.deliveries })
    assert.near(store:now(), dead_letter.died_at, 0.01)
    assert.equal(1, q:stats().expired)
    assert.equal(0, q:stats().died)
  end)

  it("is delivered up to then", function()
    q:push("a", { ttl = 10 })
    store:advance(9.9)
    assert.near(store:now() + 0.1, take():item(1).expires_at, 0.01)
  end)

  it("dies while it is waiting, with what it went through", function()
    q:push("a", { ttl = 100 })
    local batch = take()
    batch:retry { delay = 60, error = "down" }
    batch:settle()
    store:advance(60)
    batch = take()
    batch:retry { delay = 60, error = "still down" }
    batch:settle()
    store:advance(60)
    assert.equal(0, #take())
    local dead_letter = q.dead:oldest()
    assert.same({ "expired", 2, 2, "still down" }, { dead_letter.reason,
      dead_letter.attempts, dead_letter.deliveries, dead_letter.error })
  end)

  -- Items of one segment that expired together all got the history of the
  -- first of them, and its counts.
  it("dies with its own history, not with its neighbour's", function()
    q:push_many({ "a", "b" }, { ttl = 10 })
    local batch = take()
    batch:retry { delay = 100, error = "of a" }
    batch:settle()
    store:advance(10)
    q:push "c"
    assert.same({ "c" }, payloads(take(9)))
    local a, b = q.dead:get(1), q.dead:get(2)
    assert.same({ "a", 1, 1, "of a" },
                { a.payload, a.attempts, a.deliveries, a.error })
    assert.same({ "b", 0, 0 }, { b.payload, b.attempts, b.deliveries, b.error })
  end)

  -- Takes looked for what is due or fresh only, so what expired long before
  -- its delay was over stayed, counted as waiting, until then.
  it("dies at the next take though its delay is longer", function()
    q:push("a", { ttl = 10, delay = 1e6 })
    store:advance(11)
    assert.equal(0, #take())
    assert.same({ a = "expired" }, reasons(q.dead))
    assert.equal(0, q:length().total)
  end)

  it("lives on while it is leased, and may be done", function()
    q:push_many({ "a", "b" }, { ttl = 10 })
    local batch = take(2)
    store:advance(20)
    assert.equal(0, #take())
    batch:done()
    assert.is_true(batch:settle())
    assert.same({ 2, 0 }, { q:stats().done, q:stats().expired })
  end)

  -- Looking passed over all that was past its time, held or not.
  it("can be looked at as long as it is leased", function()
    q:push("a", { ttl = 10 })
    local batch = take()
    store:advance(20)
    assert.equal("leased", assert(q:get(1)).state)
    local n = 0
    for _ in q:each { state = "leased" } do n = n + 1 end
    assert.equal(#batch, n)
  end)

  it("dies when its lease ends, however that ends", function()
    for i, ending in ipairs { "retry", "release", "crash" } do
      q:push(ending, { ttl = 10, priority = i })
    end
    local batch = take(3)
    batch:item(2):release()
    batch:item(3):retry { delay = 0 }
    batch:settle()
    store:advance(31)
    assert.equal(0, #take(9))
    assert.equal(0, #take(9))
    assert.same({ retry = "expired", release = "expired", crash = "expired" },
                reasons(q.dead))
    assert.equal(0, q:length().total)
  end)

  it("is dropped where the queue says so", function()
    queue { on_expire = "drop" }
    q:push_many({ 1, 2, 3 }, { ttl = 10 })
    store:advance(10)
    assert.equal(0, #take())
    assert.same({ 0, 0, 3 },
                { q.dead:count(), q:length().total, q:stats().expired })
    assert.equal(0, q:stats().bytes)
  end)

  it("has the queue's, if it does not bring its own", function()
    queue { ttl = 10 }
    q:push "short"
    q:push("long", { ttl = 50 })
    q:push("for ever", { ttl = math.huge })
    store:advance(10)
    assert.same({ "long", "for ever" }, payloads(take(9)))
    store:advance(31)
    take(9) -- what crashed comes by halves
    store:advance(31)
    take(9)
    take(9)
    assert.same({ short = "expired", long = "expired" }, reasons(q.dead))
  end)

  it("of nothing is never delivered", function()
    q:push("a", { ttl = 0 })
    assert.equal(0, #take())
    assert.same({ a = "expired" }, reasons(q.dead))
  end)

  it("is counted from the push, not from the due time", function()
    q:push("a", { ttl = 30, delay = 20 })
    store:advance(20)
    assert.near(10, take():item(1).expires_at - store:now(), 0.01)
  end)
end)

describe("items that expired", function()
  it("make room for what is behind them, however many", function()
    local list = {}
    for i = 1, 20000 do list[i] = i end
    q:push_many(list, { ttl = 10 })
    q:push "alive"
    store:advance(10)
    assert.same({ "alive" }, payloads(take(9)))
    for _ = 1, 20 do take() end
    assert.same({ 20000, 20000 }, { q:stats().expired, q.dead:count() })
  end)

  it("are cleaned up behind a priority that always has something", function()
    q:push_many({ 1, 2, 3 }, { ttl = 10 })
    q:push_many({ 4, 5, 6 }, { priority = 1 })
    store:advance(10)
    take()
    assert.equal(3, q.dead:count())
  end)

  it("count no more against the bound of the queue", function()
    queue { max_items = 2 }
    q:push_many({ 1, 2 }, { ttl = 10 })
    store:advance(10)
    take()
    assert(q:push_many { 3, 4 })
  end)
end)
