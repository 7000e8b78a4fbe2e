-- SPDX-License-Identifier: MIT
--
-- A clock that does not run as clocks should: a lease or a delay ends after
-- its length all the same, and nothing is stranded.

local helper = require "spec.helper"
local payloads, reasons = helper.payloads, helper.reasons

local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue "orders")
end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

local function take(n)
  return assert(q:take { limit = n or 1 })
end

describe("a clock that steps back", function()
  it("strands no delayed item: it waits for its delay, no more", function()
    q:push("a", { delay = 60 })
    store:advance(-3600)
    q:push "b"
    store:advance(59)
    assert.same({ "b" }, payloads(take(9)))
    store:advance(1)
    assert.same({ "a" }, payloads(take(9)))
  end)

  -- Only writes noticed a step. A take that found nothing did not write, so
  -- a queue that was only taken from stood still until the clock was back.
  it("strands nothing where nothing else happens than takes", function()
    q:push("a", { delay = 60 })
    store:advance(-3600)
    assert.equal(0, #take())
    store:advance(60)
    assert.same({ "a" }, payloads(take()))
  end)

  it("strands nothing for one who waits", function()
    q:push("a", { delay = 60 })
    store:advance(-3600)
    assert.same({ "a" }, payloads(q:take { timeout = 61 }))
  end)

  it("strands no lease of a worker that died", function()
    q:push "a"
    take()
    store:advance(-86400)
    assert.equal(0, #take())
    store:advance(30)
    assert.equal(1, take():item(1).crashes)
  end)

  it("leaves a live lease its time", function()
    q:push_many { "a", "b" }
    local batch = take()
    store:advance(-3600)
    take()
    store:advance(29)
    assert.equal(0, #take())
    batch:done()
    assert.is_true(batch:settle())
  end)

  -- Renewals were planned by the wall clock, leases ran by the queue's.
  it("does not stop the keeping of a lease", function()
    q:push "a"
    take():keep()
    store:advance(-3600)
    q:push("b", { delay = 1e6 })
    store:advance(100)
    assert.equal(0, #take())
    assert.equal(1, q:length().leased)
  end)

  it("lets a time to live go on", function()
    q:push("a", { ttl = 100 })
    store:advance(40)
    q:push "b"
    store:advance(-3600)
    q:push "c"
    store:advance(59)
    assert.equal(3, #q:peek(9))
    store:advance(1)
    assert.same({ "b", "c" }, payloads(take(9)))
    assert.same({ a = "expired" }, reasons(q.dead))
  end)

  it("is counted, once a step", function()
    q:push "a"
    assert.equal(0, q:stats().clock_steps)
    store:advance(-0.5) -- no step, it only stands still
    q:push "b"
    assert.equal(0, q:stats().clock_steps)
    store:advance(-3600)
    q:push_many { "c", "d" }
    q:push "e"
    assert.equal(1, q:stats().clock_steps)
    store:advance(-60)
    q:push "f"
    assert.equal(2, q:stats().clock_steps)
  end)

  it("delays what is pushed meanwhile by its delay", function()
    q:push "a"
    store:advance(-3600)
    q:push("b", { delay = 20 })
    q:push("c", { at = store:now() + 40 })
    q:remove(1)
    store:advance(20)
    assert.same({ "b" }, payloads(take(9)))
    store:advance(20)
    assert.same({ "c" }, payloads(take(9)))
  end)

  it("is felt in every store handle alike", function()
    q:push("a", { delay = 60 })
    local other = assert(helper.open(store.path, { clock = "manual" }))
    other:advance(-3600)
    local mine = other:queue "orders"
    mine:push "b"
    other:advance(60)
    assert.equal(2, #mine:take { limit = 9 })
  end)

  -- Once the wall clock had passed the last time that was stored, it counted
  -- as having caught up, and the time since then as not having passed.
  it("makes no delay longer that is not over by then", function()
    q:push("a", { delay = 100 })
    store:advance(-40)
    q:push "b"
    store:advance(100)
    assert.same({ "a", "b" }, payloads(take(9)))
  end)
end)

describe("a clock that jumps ahead", function()
  local year = 365 * 86400

  it("makes everything due, and comes back without stranding", function()
    q:push("a", { delay = 1000 })
    q:push "b"
    take()
    store:advance(year)
    assert.equal(2, q:length().ready)
    q:push "c"
    store:advance(-year)
    q:push("d", { delay = 60 })
    local seen = {}
    repeat
      local batch = take()
      for _, value in ipairs(payloads(batch)) do seen[value] = true end
      batch:done()
      batch:settle()
    until #batch == 0
    assert.same({ a = true, b = true, c = true }, seen)
    store:advance(60)
    assert.same({ "d" }, payloads(take()))
  end)
end)
