-- SPDX-License-Identifier: MIT
--
-- How long the item that has been ready longest is ready.

local helper = require "spec.helper"

local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue("orders", { lease = 10 }))
end)

local it = helper.checked(it)

local function age()
  local metric = store:metrics():match
    'respool_oldest_age_seconds{queue="orders"} (%S+)'
  local stats = q:stats().oldest_age
  assert.equal(stats, tonumber(metric))
  assert.equal(stats, store:health().components.queues.orders.oldest_age)
  return stats
end

describe("the age of the oldest ready item", function()
  it("is 0 where none is ready", function()
    q:push("a", { delay = 60 })
    store:advance(30)
    assert.equal(0, age())
  end)

  it("counts from the push of an item that was not delivered yet", function()
    q:push "a"
    store:advance(30)
    q:push "b"
    assert.equal(30, age())
  end)

  it("counts from the due time of one that was scheduled", function()
    q:push("a", { delay = 60 })
    store:advance(65)
    assert.equal(5, age())
  end)

  it("counts from the due time of a retry", function()
    q:push "a"
    local batch = q:take()
    batch:retry { delay = 60 }
    assert(batch:settle())
    assert.equal(0, age())
    store:advance(67)
    assert.equal(7, age())
  end)

  it("counts from the end of a lease that ran out", function()
    q:push "a"
    q:take()
    store:advance(10)
    assert.equal(0, age())
    store:advance(3)
    assert.equal(3, age())
  end)

  it("is that of the oldest of all", function()
    q:push("a", { delay = 5 })
    q:push("b", { priority = 3 })
    store:advance(20)
    assert.equal(20, age())
    local batch = q:take()
    batch:done()
    assert(batch:settle())
    assert.equal(15, age())
  end)
end)
