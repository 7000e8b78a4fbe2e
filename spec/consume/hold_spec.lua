-- SPDX-License-Identifier: MIT
--
-- Holds: nothing is taken from a queue for some time, by any process.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local respool = require "respool"

local t

before_each(function() t = queue_of.new() end)

local it = helper.checked(it)

local function take(n) return t:done(n) end

local function push(n) t:push_numbers(n) end

local function stats() return assert(t.q:stats()) end

local function near(expected, n)
  assert.near(expected, n, 0.0015)
end

describe("a hold", function()
  it("keeps a queue until it is over", function()
    push(2)
    assert(t.q:hold(10))
    assert.same({}, take())
    t.store:advance(9.999)
    assert.same({}, take())
    t.store:advance(0.001)
    assert.same({ 1 }, take())
  end)

  it("says until when, and why", function()
    assert(t.q:hold("1m", { reason = "the relay is away" }))
    near(60, stats().held_until - t.store:now())
    assert.equal("the relay is away", stats().held_for)
    t.store:advance(60)
    assert.is_nil(stats().held_until)
    assert.is_nil(stats().held_for)
  end)

  it("is not made shorter by another, but ended by 0", function()
    push(1)
    assert(t.q:hold(100))
    assert(t.q:hold(1))
    near(100, stats().held_until - t.store:now())
    assert(t.q:hold(0))
    assert.same({ 1 }, take())
  end)

  it("is the outcome of an item, which spends nothing and stays first",
     function()
    push(3)
    local batch = assert(t.q:take())
    batch[1]:hold(5, "not now")
    assert(batch:settle())
    assert.same({}, take(3))
    local item = t.q:get(1)
    assert.equal(0, item.attempts)
    assert.equal("ready", item.state)
    assert.equal("not now", stats().held_for)
    t.store:advance(5)
    assert.same({ 1, 2, 3 }, take(3))
  end)

  it("ends what a handler has in hand: the rest goes back with it", function()
    push(10)
    local seen = {}
    local counts = assert(t.q:work(function(payload)
      seen[#seen + 1] = payload
      if #seen == 3 then return respool.hold(30) end
    end, { batch = 10, limit = 10, timeout = 0 }))
    assert.same({ 1, 2, 3 }, seen)
    assert.equal(2, counts.done)
    assert.equal(8, stats().ready)
    assert.equal(0, t.q:get(4).attempts)
  end)

  it("is waited for by work that ends when the queue is empty; what a handler "
     .. "snoozed is not", function()
    push(3)
    local began, n = t.store:now(), 0
    local counts = assert(t.q:work(function(payload)
      n = n + 1
      if n == 1 then return respool.hold(30) end
      if payload == 2 then return respool.snooze(60) end
    end, { stop_when_empty = true }))
    assert.same({ 2, 1 }, { counts.done, counts.snoozed })
    near(30, t.store:now() - began)
    assert.equal(1, stats().scheduled)
  end)

  it("tells a waiting take when to come again", function()
    push(1)
    assert(t.q:hold(30))
    local before = t.store:now()
    local batch = assert(t.q:take { timeout = 100 })
    assert.equal(1, #batch)
    near(30, t.store:now() - before)
    batch:done()
    assert(batch:settle())
  end)

  it("counts for nothing where the lease is lost", function()
    push(2)
    local late = assert(t.q:take())
    t.store:advance(31)
    assert.same({ 1 }, take())
    late[1]:hold(60)
    assert.is_nil((late:settle()))
    assert.same({ 2 }, take())
  end)

  it("is given by a transaction", function()
    push(1)
    local batch = assert(t.q:take())
    assert(t.store:transaction(function(tx) tx:hold(batch[1], 7) end))
    assert(batch:close())
    near(7, stats().held_until - t.store:now())
  end)

  it("lets leases be settled and items be pushed", function()
    push(1)
    local batch = assert(t.q:take())
    assert(t.q:hold(60))
    batch:done()
    assert(batch:settle())
    assert(t.q:push "more")
    assert.equal(1, stats().done)
    assert.equal(1, stats().ready)
  end)

  it("outlives the process", function()
    push(1)
    assert(t.q:hold(60, { reason = "maintenance" }))
    t:reopen()
    assert.equal("maintenance", stats().held_for)
    assert.same({}, take())
  end)

  it("has a reason of 255 bytes at most, cut at a whole character", function()
    assert(t.q:hold(60, { reason = ("ä"):rep(200) }))
    assert.equal(("ä"):rep(127), stats().held_for)
    assert(t.q:hold(90, { reason = "429\0 of relay" }))
    assert.equal("429  of relay", stats().held_for)
  end)

  it("refuses what is no length of time", function()
    assert.error_matches(function() t.q:hold(-1) end, "not negative")
    assert.error_matches(function() t.q:hold "soon" end, "hold")
    assert.error_matches(function() respool.hold() end, "hold")
    assert.error_matches(function() t.q:hold(1, { why = "x" }) end,
                         "queue:hold: unknown option 'why'")
  end)
end)
