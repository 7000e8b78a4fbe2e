-- SPDX-License-Identifier: MIT
--
-- Rates, holds and breakers of partitions.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local respool = require "respool"
local payloads = helper.payloads
local settle = queue_of.settle_each

local it = helper.checked(it)

local t

local function fill(...) t:fill(...) end
local function partition(key) return t:partition(key) end

describe("a partition's rate", function()
  before_each(function()
    t = queue_of.new { partitions = { rate = { items = 2, per = 1 } } }
  end)

  it("bounds each of them", function()
    fill("a", 10)
    fill("b", 10)
    assert.equal(4, #t:take(20))
    assert.equal(0, #t:take(20))
    t.store:advance(0.5)
    assert.equal(2, #t:take(20))
  end)

  it("is not spent by what a batch had no room for", function()
    fill("a", 10)
    assert.equal(1, #assert(t.q:take { limit = 10, bytes = 1 }))
    assert.equal(1, #assert(t.q:take { limit = 10, bytes = 1 }))
    assert.equal(0, #t:take(10))
  end)

  it("outlasts the last item, and not the time until it is full", function()
    fill("a", 2)
    settle(t:take(10), "done")
    assert.equal(0, partition "a".ready)
    fill("a", 2)
    assert.equal(0, #t:take(10))
    t.store:advance(2)
    settle(t:take(10), "done")
    t.store:advance(2)
    t:take(1)
    assert.is_nil(partition "a")
  end)

  it("may be changed while the queue is worked on", function()
    fill("a", 10)
    t:take(10)
    t:queue { partitions = { rate = { items = 1000, per = 1 } } }
    t.store:advance(0.01)
    assert.equal(8, #t:take(10))
    t:queue { partitions = { rate = false } }
    assert.is_false(t.q:config().partitions.rate)
  end)
end)

describe("a hold of a partition", function()
  before_each(function() t = queue_of.new {} end)

  it("keeps its items from being taken, and no others", function()
    fill("a", 2)
    fill("b", 2)
    assert(t.q:hold(60, { partition = "a", reason = "moving" }))
    assert.same({ "b1", "b2" }, payloads(t:take(10)))
    assert.equal("moving", partition "a".held_for)
    assert.equal(t.store:now() + 60, partition "a".held_until)
    t.store:advance(61)
    assert.same({ "a1", "a2" }, payloads(t:take(10)))
  end)

  -- A store in files listed what it had not yet cleaned up.
  it("is not listed when it is over, without items", function()
    t:queue { partitions = { rate = { items = 5, per = 1 } } }
    assert(t.q:hold(60, { partition = "a" }))
    fill("b", 1)
    t.q:work(function() end, { limit = 1 })
    assert.equal(2, #t.q:partitions())
    t.store:advance(61)
    assert.same({}, t.q:partitions())
    assert.same({}, t.q:partitions { order = "key" })
  end)

  it("may come before its items", function()
    assert(t.q:hold(60, { partition = "a" }))
    fill("a", 1)
    assert.equal(0, #t:take(10))
  end)

  it("ends with one of 0 seconds", function()
    fill("a", 1)
    t.q:hold(60, { partition = "a" })
    assert.equal(0, #t:take(10))
    t.q:hold(0, { partition = "a" })
    assert.equal(1, #t:take(10))
  end)

  it("is what the outcome holds", function()
    fill("a", 2)
    fill("b", 1)
    local batch = t:take(1)
    batch:item(1):hold(60)
    batch:settle()
    assert.same({ "b1" }, payloads(t:take(10)))
    t.store:advance(61)
    local again = t:take(10)
    assert.same({ "a1", "a2" }, payloads(again))
    assert.equal(0, again:item(1).attempts)
  end)
end)

describe("work on a batch of partitions", function()
  before_each(function() t = queue_of.new {} end)

  -- What the handler saw of one batch; it answers the first item with this.
  local function seen_of(answer)
    local seen = {}
    assert(t.q:work(function(payload)
      seen[#seen + 1] = payload
      if #seen == 1 then return answer() end
    end, { batch = 10, limit = 10, timeout = 0 }))
    return seen
  end

  it("goes on with others where one is held by its item", function()
    fill("a", 3)
    fill("b", 2)
    assert.same({ "a1", "b1", "b2" },
                seen_of(function() return respool.hold(30) end))
    assert.equal(3, partition "a".ready)
    assert.equal(0, t.q:get(2).attempts)
  end)

  it("goes on with others where the breaker of one opens", function()
    t:queue { partitions = { breaker = { failures = 1 } } }
    fill("a", 3)
    fill("b", 2)
    assert.same({ "a1", "b1", "b2" }, seen_of(function()
      return nil, { message = "away", group = "refused" }
    end))
    assert.equal("open", partition "a".breaker)
    assert.equal(0, t.q:get(2).attempts)
  end)

  it("leaves what stands behind an item that failed, in strict order",
     function()
    t:queue { partitions = { ordered = true, batch = 5 } }
    fill("a", 3)
    fill("b", 2)
    assert.same({ "a1", "b1", "b2" },
                seen_of(function() return respool.snooze(30) end))
    t.store:advance(31)
    assert.same({ "a1", "a2", "a3" }, payloads(t:take(10)))
  end)
end)

describe("a partition's breaker", function()
  local AWAY = { error = "connection refused", group = "refused", delay = 1 }

  before_each(function()
    t = queue_of.new { partitions = {
      breaker = { failures = 3, within = 30, cooldown = 60 },
    } }
  end)

  -- Three outages of `key` in a row.
  local function open(key)
    fill(key, 5)
    for _ = 1, 3 do settle(t:take(1), "retry", AWAY) end
    assert.equal("open", partition(key).breaker)
  end

  it("keeps its items from being taken, and no others", function()
    open "a"
    fill("b", 1)
    t.store:advance(59)
    assert.same({ "b1" }, payloads(t:take(10)))
    local a = partition "a"
    assert.equal("closed", partition "b".breaker)
    assert.near(1, a.breaker_until - t.store:now(), 0.01)
    assert.same({ 3, 1 }, { a.outages, a.opened })
    assert.equal("closed", t.q:stats().breaker)
  end)

  it("gives what failed in the row its attempt back", function()
    open "a"
    fill("b", 1)
    settle(t:take(1), "retry", AWAY)
    for id = 1, 3 do assert.equal(0, t.q:get(id).attempts) end
    assert.equal(1, t.q:get(6).attempts)
  end)

  it("spends no attempt of what fails with others in one batch", function()
    fill("a", 5)
    fill("b", 1)
    settle(t:take(10), "retry", AWAY)
    for id = 1, 5 do assert.equal(0, t.q:get(id).attempts) end
    assert.equal(1, t.q:get(6).attempts)
    assert.equal("open", partition "a".breaker)
    assert.equal("closed", partition "b".breaker)
  end)

  it("lets a probe go after the cooldown, and closes when it is done",
     function()
    open "a"
    t.store:advance(61)
    local probe = t:take(10)
    assert.equal(1, #probe)
    assert.equal("half_open", partition "a".breaker)
    assert.equal(0, #t:take(10))
    settle(probe, "done")
    assert.equal(4, #t:take(10))
    assert.equal("closed", partition "a".breaker)
  end)

  it("opens again when the probe fails so, which spends nothing", function()
    open "a"
    for _ = 1, 10 do
      t.store:advance(61)
      local probe = t:take(10)
      assert.equal(1, #probe)
      settle(probe, "retry", AWAY)
      assert.equal("open", partition "a".breaker)
    end
    for id = 1, 5 do assert.equal(0, t.q:get(id).attempts) end
    assert.equal(1, partition "a".opened)
  end)

  it("waits for a probe whose lease is extended", function()
    open "a"
    t.store:advance(61)
    local probe = assert(t.q:take { limit = 1, lease = 20 })
    t.store:advance(15)
    assert(probe:extend(20))
    t.store:advance(15)
    assert.equal(0, #t:take(10))
    settle(probe, "done")
    assert.equal(4, #t:take(10))
  end)

  it("lets another probe go when the lease of one has run out", function()
    open "a"
    t.store:advance(61)
    local probe = assert(t.q:take { limit = 1, lease = 20 })
    t.store:advance(21)
    assert.equal(1, #t:take(1))
    assert.equal(0, #(t.q:take() or {}))
    probe:close()
  end)

  it("may be taken away, and is told by config", function()
    open "a"
    assert.same({ failures = 3, within = 30, cooldown = 60, probes = 1 },
                t.q:config().partitions.breaker)
    t:queue { partitions = { breaker = false } }
    t.store:advance(2)
    assert.equal(5, #t:take(10))
    assert.is_false(t.q:config().partitions.breaker)
  end)

  -- As of a queue: three hours away, a few hundred tries, none dies.
  it("holds back a destination that is away, and no other", function()
    t:queue { partitions = { breaker = true } }
    fill("away", 100)
    fill("there", 100)
    local tries, arrived = 0, 0
    for _ = 1, 180 do
      repeat
        local batch = t:take(10)
        for i = 1, #batch do
          local item = batch:item(i)
          if item.partition == "there" then
            item:done()
            arrived = arrived + 1
          else
            tries = tries + 1
            item:retry { error = "no", group = "timeout" }
          end
        end
        assert(batch:settle())
      until #batch == 0
      t.store:advance(60)
    end
    assert.equal(100, arrived)
    assert.is_true(tries < 400, tries)
    assert.equal(0, t.q:stats().dead)
    t.store:advance(3600)
    repeat
      local batch = t:take(10)
      settle(batch, "done")
    until #batch == 0
    assert.same({}, t.q:partitions())
  end)
end)
