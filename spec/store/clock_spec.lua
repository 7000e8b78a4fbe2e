-- SPDX-License-Identifier: MIT
--
-- A clock that does not run as clocks should: a lease or a delay ends after
-- its length all the same, and nothing is stranded.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local payloads, reasons = helper.payloads, helper.reasons

local t

before_each(function() t = queue_of.new() end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

describe("a clock that steps back", function()
  it("strands no delayed item: it waits for its delay, no more", function()
    t.q:push("a", { delay = 60 })
    t.store:advance(-3600)
    t.q:push "b"
    t.store:advance(59)
    assert.same({ "b" }, payloads(t:take(9)))
    t.store:advance(1)
    assert.same({ "a" }, payloads(t:take(9)))
  end)

  -- Only writes noticed a step. A take that found nothing did not write, so
  -- a queue that was only taken from stood still until the clock was back.
  it("strands nothing where nothing else happens than takes", function()
    t.q:push("a", { delay = 60 })
    t.store:advance(-3600)
    assert.equal(0, #t:take())
    t.store:advance(60)
    assert.same({ "a" }, payloads(t:take()))
  end)

  it("strands nothing for one who waits", function()
    t.q:push("a", { delay = 60 })
    t.store:advance(-3600)
    assert.same({ "a" }, payloads(t.q:take { timeout = 61 }))
  end)

  it("strands no lease of a worker that died", function()
    t.q:push "a"
    t:take()
    t.store:advance(-86400)
    assert.equal(0, #t:take())
    t.store:advance(30)
    assert.equal(1, t:take():item(1).crashes)
  end)

  it("makes no hold longer, where the queue is emptied meanwhile", function()
    local id = t.q:push "a"
    t.store:advance(-3600)
    t.q:hold(10)
    t.q:remove(id)
    t.q:push "b" -- from here on the queue's time is the clock's again
    t.store:advance(9.9)
    assert.same({}, payloads(t:take()))
    t.store:advance(0.2)
    assert.same({ "b" }, payloads(t:take()))
  end)

  it("leaves a live lease its time", function()
    t.q:push_many { "a", "b" }
    local batch = t:take()
    t.store:advance(-3600)
    t:take()
    t.store:advance(29)
    assert.equal(0, #t:take())
    batch:done()
    assert.is_true(batch:settle())
  end)

  -- Renewals were planned by the wall clock, leases ran by the queue's.
  it("does not stop the keeping of a lease", function()
    t.q:push "a"
    t:take():keep()
    t.store:advance(-3600)
    t.q:push("b", { delay = 1e6 })
    t.store:advance(100)
    assert.equal(0, #t:take())
    assert.equal(1, t.q:length().leased)
  end)

  it("lets a time to live go on", function()
    t.q:push("a", { ttl = 100 })
    t.store:advance(40)
    t.q:push "b"
    t.store:advance(-3600)
    t.q:push "c"
    t.store:advance(59)
    assert.equal(3, #t.q:peek(9))
    t.store:advance(1)
    assert.same({ "b", "c" }, payloads(t:take(9)))
    assert.same({ a = "expired" }, reasons(t.q.dead))
  end)

  it("is counted, once a step", function()
    t.q:push "a"
    assert.equal(0, t.q:stats().clock_steps)
    t.store:advance(-0.5) -- no step, it only stands still
    t.q:push "b"
    assert.equal(0, t.q:stats().clock_steps)
    t.store:advance(-3600)
    t.q:push_many { "c", "d" }
    t.q:push "e"
    assert.equal(1, t.q:stats().clock_steps)
    t.store:advance(-60)
    t.q:push "f"
    assert.equal(2, t.q:stats().clock_steps)
  end)

  it("delays what is pushed meanwhile by its delay", function()
    t.q:push "a"
    t.store:advance(-3600)
    t.q:push("b", { delay = 20 })
    t.q:push("c", { at = t.store:now() + 40 })
    t.q:remove(1)
    t.store:advance(20)
    assert.same({ "b" }, payloads(t:take(9)))
    t.store:advance(20)
    assert.same({ "c" }, payloads(t:take(9)))
  end)

  it("is felt in every store handle alike", function()
    t.q:push("a", { delay = 60 })
    local other = assert(helper.open(t.store.path, { clock = "manual" }))
    other:advance(-3600)
    local mine = other:queue "orders"
    mine:push "b"
    other:advance(60)
    assert.equal(2, #mine:take { limit = 9 })
  end)

  -- Once the wall clock had passed the last time that was stored, it counted
  -- as having caught up, and the time since then as not having passed.
  it("makes no delay longer that is not over by then", function()
    t.q:push("a", { delay = 100 })
    t.store:advance(-40)
    t.q:push "b"
    t.store:advance(100)
    assert.same({ "a", "b" }, payloads(t:take(9)))
  end)
end)

describe("a clock that jumps ahead", function()
  local year = 365 * 86400

  it("makes everything due, and comes back without stranding", function()
    t.q:push("a", { delay = 1000 })
    t.q:push "b"
    t:take()
    t.store:advance(year)
    assert.equal(2, t.q:length().ready)
    t.q:push "c"
    t.store:advance(-year)
    t.q:push("d", { delay = 60 })
    local seen = {}
    repeat
      local batch = t:take()
      for _, value in ipairs(payloads(batch)) do seen[value] = true end
      batch:done()
      batch:settle()
    until #batch == 0
    assert.same({ a = true, b = true, c = true }, seen)
    t.store:advance(60)
    assert.same({ "d" }, payloads(t:take()))
  end)
end)
