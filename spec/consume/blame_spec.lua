-- SPDX-License-Identifier: MIT
--
-- Blame: a failure spends an attempt, a lease that ran out a crash, and what
-- crashed comes again in halves, until the poison is alone.

local helper = require "spec.helper"
local range, payloads = helper.range, helper.payloads

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

-- A worker that dies whenever it has one of `poison` in its hands; it is
-- done with everything else. Returns its takes.
local function work(poison, items)
  local takes = 0
  while true do
    local batch = take(items)
    if #batch == 0 then return takes end
    takes = takes + 1
    local dies = false
    for _, value in ipairs(payloads(batch)) do dies = dies or poison[value] end
    if dies then
      store:advance(31)
    else
      batch:done()
      assert(batch:settle())
    end
  end
end

describe("a poisonous item", function()
  it("ends up alone and dies, its neighbours get done", function()
    q:push_many(range(8))
    work({ [5] = true }, 8)
    assert.equal(7, q:stats().done)
    assert.equal(0, q:length().total)
    assert.equal(1, q.dead:count())
    local dead_letter = q.dead:oldest()
    assert.equal(5, dead_letter.payload)
    assert.equal("crashed", dead_letter.reason)
    assert.equal("the lease ran out", dead_letter.error)
    assert.equal(0, dead_letter.attempts)
    assert.equal(dead_letter.crashes, dead_letter.deliveries)
  end)

  it("dies alone even when one crash is the limit (guarantee 5)", function()
    q = store:queue("orders", { max_crashes = 1 })
    q:push_many(range(50))
    work({ [1] = true, [26] = true, [50] = true }, 50)
    assert.equal(47, q:stats().done)
    local dead = {}
    for dead_letter in q.dead:each() do dead[dead_letter.payload] =
      dead_letter.reason end
    assert.same({ [1] = "crashed", [26] = "crashed", [50] = "crashed" }, dead)
  end)

  it("is found in a number of takes that grows with the logarithm", function()
    q:push_many(range(1024))
    local takes = work({ [700] = true }, 1024)
    assert.is_true(takes <= 2 * 10 + 3, takes .. " takes")
    assert.equal(1023, q:stats().done)
  end)

  it("alone from the start has its limit of crashes", function()
    q = store:queue("orders", { max_crashes = 4 })
    q:push "bad"
    assert.equal(4, work({ bad = true }, 1))
    assert.equal(4, q.dead:oldest().crashes)
    assert.equal(4, q.dead:oldest().failures)
  end)

  it("may crash for ever where there is no limit", function()
    q = store:queue("orders", { max_crashes = math.huge })
    q:push "bad"
    for i = 0, 19 do
      assert.equal(i, take():item(1).crashes)
      store:advance(31)
    end
    assert.equal(0, q.dead:count())
  end)

  it("comes in a lot of its own, without fresh items", function()
    q:push_many(range(4))
    take(4)
    store:advance(31)
    q:push_many { 5, 6 }
    assert.same({ 1, 2 }, payloads(take(9)))
    assert.same({ 3, 4 }, payloads(take(9)))
    assert.same({ 5, 6 }, payloads(take(9)))
  end)
end)

describe("blame (guarantee 5)", function()
  it("counts attempts, deliveries and crashes apart", function()
    q:push "a"
    local batch
    for _ = 1, 2 do
      batch = take()
      batch:retry { delay = 0 }
      batch:settle()
    end
    for _ = 1, 3 do
      batch = take()
      batch:release()
      batch:settle()
    end
    take()
    store:advance(31)
    local item = take():item(1)
    assert.same({ 2, 7, 1 }, { item.attempts, item.deliveries, item.crashes })
  end)

  it("is on nobody for what was released, snoozed or closed", function()
    q = store:queue("orders", { max_attempts = 1, max_crashes = 1 })
    q:push "a"
    for i = 1, 30 do
      local batch = take()
      if i % 3 == 0 then batch:release() end
      if i % 3 == 1 then batch:snooze(1) end
      batch:close()
      store:advance(1)
    end
    local item = q:get(1)
    assert.same({ 0, 30, 0 }, { item.attempts, item.deliveries, item.crashes })
  end)

  it("for a crash spends no attempt, for a failure no crash", function()
    q = store:queue("orders", { max_attempts = 2, max_crashes = 2 })
    q:push "a"
    take()
    store:advance(31)
    local batch = take()
    batch:retry { delay = 0 }
    batch:settle()
    local item = take():item(1)
    assert.same({ 1, 1 }, { item.attempts, item.crashes })
    assert.equal(0, q.dead:count())
  end)
end)
