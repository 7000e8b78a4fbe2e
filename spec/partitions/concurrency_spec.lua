-- SPDX-License-Identifier: MIT
--
-- A partition's concurrency: how many of its items are leased at once.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local payloads = helper.payloads
local settle = queue_of.settle_each

local it = helper.checked(it)

local t

local function fill(...) t:fill(...) end
local function partition(key) return t:partition(key) end

describe("a partition's concurrency", function()
  before_each(function()
    t = queue_of.new { partitions = { concurrency = 2 }, lease = 30 }
  end)

  it("is how many of its items are leased at once", function()
    fill("a", 5)
    fill("b", 1)
    local first = t:take(10)
    assert.same({ "a1", "a2", "b1" }, payloads(first))
    assert.equal(0, #t:take(10))
    first:item(1):done()
    first:settle()
    assert.same({ "a3" }, payloads(t:take(10)))
  end)

  it("counts all priorities of the partition", function()
    fill("a", 2, { priority = 1 })
    fill("a", 2, { priority = 2 })
    assert.equal(2, #t:take(10))
    assert.equal(0, #t:take(10))
  end)

  for _, outcome in ipairs { "done", "drop", "dead", "release" } do
    it("is given back by " .. outcome, function()
      fill("a", 4)
      settle(t:take(10), outcome)
      assert.equal(2, #t:take(10))
    end)
  end

  it("is given back by a retry and a snooze, at once", function()
    fill("a", 4)
    local batch = t:take(10)
    batch:item(1):retry { delay = 60 }
    batch:item(2):snooze(60)
    batch:settle()
    assert.same({ "a3", "a4" }, payloads(t:take(10)))
    assert.equal(2, partition "a".scheduled)
  end)

  it("holds for what was retried, too", function()
    fill("a", 4)
    settle(t:take(10), "snooze", 5)
    local second = t:take(10)
    t.store:advance(6)
    assert.equal(0, #t:take(10))
    settle(second, "done")
    assert.equal(2, #t:take(10))
  end)

  it("is given back by a cancel", function()
    fill("a", 3)
    t:take(10)
    assert(t.q:cancel(1))
    assert.same({ "a3" }, payloads(t:take(10)))
  end)

  it("is given back by a lease that ran out", function()
    fill("a", 3)
    t:take(10)
    t.store:advance(31)
    assert.equal(1, #t:take(10)) -- what crashed comes alone
    assert.equal(1, #t:take(1))
    assert.equal(0, #(t.q:take() or {}))
  end)

  it("is given back by the death of what crashed too often", function()
    t:queue { partitions = { concurrency = 1 }, max_crashes = 1, lease = 30 }
    fill("a", 2)
    t:take(10)
    t.store:advance(31)
    assert.same({ "a2" }, payloads(t:take(10)))
    assert.equal(1, t.q:stats().dead)
  end)

  -- What was leased in a priority came back when a take got to that, so never
  -- while a higher one had enough; what waited for it was in that.
  -- A take that had something left what is to come alone, and with it all
  -- turns of its priority, and went on with lower ones.
  it("go before those of lower priorities where one is to come alone",
     function()
    t:queue { lease = 10 }
    fill("a", 1, { priority = 1 })
    t:take(1)
    t.store:advance(11)
    fill("low", 1)
    fill("b", 1, { priority = 1 })
    fill("high", 1, { priority = 2 })
    assert.same({ "high1", "b1" }, payloads(t:take(10)))
    fill("c", 1, { priority = 1 })
    fill("high", 1, { priority = 2 })
    assert.same({ "high1" }, payloads(t:take(10)))
    assert.same({ "a1" }, payloads(t:take(10)))
    assert.same({ "c1", "low1" }, payloads(t:take(10)))
  end)

  it("give what was leased when a lease ends that was made shorter", function()
    for _, bound in ipairs {
      { concurrency = 1 }, { concurrency = 0, ordered = true },
      { concurrency = 0, ordered = false },
    } do
      t:queue { partitions = bound, lease = 600 }
      fill("a", 1)
      local batch = t:take(1)
      assert(batch:extend(5))
      t.store:advance(6)
      local again = t:take(1)
      assert.same({ "a1" }, payloads(again))
      settle(again, "done")
    end
  end)

  -- On PostgreSQL "low" came before "second": a take went on with lower
  -- priorities where the head of a line was only to be buried.
  it("is not overtaken where the head of its line has expired", function()
    for _, on_expire in ipairs { "dead", "drop" } do
      for limit = 1, 4 do
        t = queue_of.new { lease = 10, on_expire = on_expire,
                           partitions = { ordered = true } }
        fill("b", 1, { priority = 5 })
        assert(t.q:push("head", { partition = "a", priority = 5, ttl = 5 }))
        assert(t.q:push("second", { partition = "a", priority = 5 }))
        assert(t.q:push("low", { partition = "a", priority = 1 }))
        t:take(1)
        t.store:advance(11)
        local order = {}
        while #order < 3 do
          for _, name in ipairs(payloads(t:take(limit))) do
            order[name] = #order + 1
            order[#order + 1] = name
          end
        end
        assert.is_true(order.second < order.low)
      end
    end
  end)

  it("is given back in a priority that no take gets to", function()
    t:queue { partitions = { concurrency = 1 }, lease = 10 }
    fill("a", 1)
    t:take(1)
    t.store:advance(11)
    fill("a", 1, { priority = 1 })
    local came = {}
    for i = 1, 6 do
      fill("b" .. i, 1, { priority = 1 })
      local batch = t:take(1)
      came[batch:item(1).partition] = true
      settle(batch, "done")
    end
    assert.is_true(came.a)
  end)

  -- It was read as for the batch, which had no room for its bytes, and then its
  -- claim was deleted: it stayed without one, and was never seen again.
  it("does not hide a large item that crashed too often", function()
    t:queue { max_crashes = 1, lease = 30 }
    assert(t.q:push(("x"):rep(1000), { partition = "a" }))
    t:take(1)
    t.store:advance(31)
    assert(t.q:push("first", { partition = "b", priority = 1 }))
    local batch = assert(t.q:take { limit = 10, bytes = 500 })
    assert.same({ "first" }, payloads(batch))
    assert.same({}, t.store:check())
    assert.equal(0, #t:take(10)) -- it dies with this take at the latest
    assert.equal(1, t.store:dead "orders":count())
  end)

  it("may be changed while the queue is worked on", function()
    fill("a", 5)
    t:take(10)
    t:queue { partitions = { concurrency = 4 } }
    assert.equal(2, #t:take(10))
    t:queue { partitions = { concurrency = 0 } }
    assert.equal(1, #t:take(10))
  end)
end)
