-- SPDX-License-Identifier: MIT
--
-- Strict order (guarantee 9): within a priority of an ordered queue
-- nothing is delivered while an earlier item is leased or waiting.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local respool = require "respool"
local payloads = helper.payloads

local t

before_each(function()
  t = queue_of.new {
    ordered = true, max_attempts = 3,
    retry = respool.backoff.constant { delay = 60 },
  }
end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

describe("an ordered queue", function()
  it("delivers nothing while something is leased", function()
    t.q:push_many { 1, 2, 3 }
    local batch = t:take(2)
    assert.same({ 1, 2 }, payloads(batch))
    assert.equal(0, #t:take())
    batch:done()
    batch:settle()
    assert.same({ 3 }, payloads(t:take()))
  end)

  it("delivers nothing while part of a batch is not settled", function()
    t.q:push_many { 1, 2, 3, 4 }
    local batch = t:take(3)
    batch:item(1):done()
    batch:item(3):done()
    batch:settle()
    assert.equal(0, #t:take())
    batch:item(2):done()
    batch:settle()
    assert.same({ 4 }, payloads(t:take()))
  end)

  it("waits for an item that is to be tried again", function()
    t.q:push_many { 1, 2, 3 }
    t:settle(1, "retry")
    assert.equal(0, #t:take(9))
    t.store:advance(59)
    assert.equal(0, #t:take(9))
    t.store:advance(1)
    assert.same({ 1 }, t:settle(1, "done"))
    assert.same({ 2, 3 }, t:settle(9, "done"))
  end)

  it("waits for an item in the middle, then goes on behind it", function()
    t.q:push_many { 1, 2, 3, 4 }
    local batch = t:take(3)
    batch:done()
    batch:item(2):retry { delay = 10 }
    batch:settle()
    assert.equal(0, #t:take(9))
    t.store:advance(10)
    assert.same({ 2 }, t:settle(1, "done"))
    assert.same({ 4 }, t:settle(1, "done"))
  end)

  it("waits for a snoozed item", function()
    t.q:push_many { 1, 2 }
    t:settle(1, "snooze", 40)
    t.store:advance(39)
    assert.equal(0, #t:take(9))
    t.store:advance(1)
    assert.same({ 1 }, t:settle(1, "done"))
    assert.same({ 2 }, t:settle(1, "done"))
  end)

  it("waits for a delayed item that was pushed before", function()
    t.q:push("late", { delay = 100 })
    t.q:push "now"
    assert.equal(0, #t:take(9))
    t.store:advance(100)
    assert.same({ "late" }, t:settle(1, "done"))
    assert.same({ "now" }, t:settle(1, "done"))
  end)

  -- A look at the priority said that nothing could be taken as long as anything
  -- waited there, whether before or behind the next item.
  it("does not wait for a delayed item that was pushed behind", function()
    t.q:push "now"
    t.q:push("late", { delay = 100 })
    assert.same({ "now" }, t:settle(9, "done"))
  end)

  it("waits for the first of several that wait, not the soonest", function()
    t.q:push_many { 1, 2, 3 }
    local batch = t:take(3)
    batch:item(1):retry { delay = 30 }
    batch:item(2):retry { delay = 10 }
    batch:item(3):retry { delay = 20 }
    batch:settle()
    t.store:advance(20)
    assert.equal(0, #t:take(9))
    t.store:advance(10)
    for i = 1, 3 do assert.same({ i }, t:settle(1, "done")) end
  end)

  -- An item due behind it hid the due time of the first.
  it("wakes one who waits when the first of them is due", function()
    t.q:push_many { 1, 2 }
    local batch, due = t:take(2), t.store:now() + 60
    batch:item(1):retry()
    batch:item(2):retry { delay = 10 }
    batch:settle()
    t.store:advance(20)
    assert.same({ 1 }, payloads(t.q:take { timeout = 100 }))
    assert.near(due, t.store:now(), 0.01)
  end)

  it("delivers again first what was released", function()
    t.q:push_many { 1, 2, 3 }
    local batch = t:take(2)
    batch:item(1):done()
    batch:item(2):release()
    batch:settle()
    assert.same({ 2 }, t:settle(1, "done"))
    assert.same({ 3 }, t:settle(1, "done"))
  end)

  it("delivers again first what a crash left, in halves", function()
    t.q:push_many { 1, 2, 3, 4, 5 }
    t:take(4)
    t.store:advance(31)
    assert.same({ 1, 2 }, t:settle(9, "done"))
    assert.same({ 3, 4 }, t:settle(9, "done"))
    assert.same({ 5 }, t:settle(9, "done"))
  end)

  it("does not deliver the second half before the first is over", function()
    t.q:push_many { 1, 2, 3, 4 }
    t:take(4)
    t.store:advance(31)
    local batch = t:take(9)
    assert.same({ 1, 2 }, payloads(batch))
    assert.equal(0, #t:take(9))
    batch:retry { delay = 10 }
    batch:settle()
    assert.equal(0, #t:take(9))
  end)

  it("goes on once an item is dead", function()
    t.q:push_many { 1, 2, 3 }
    assert.same({ 1 }, t:settle(1, "dead"))
    for _ = 1, 3 do
      assert.same({ 2 }, t:settle(1, "retry"))
      t.store:advance(60)
    end
    assert.same({ 3 }, t:settle(9, "done"))
    assert.equal(2, t.q.dead:count())
  end)

  it("goes on once an item has crashed too often", function()
    t.q:push_many { 1, 2 }
    for _ = 1, 3 do
      assert.same({ 1 }, payloads(t:take(1)))
      t.store:advance(31)
    end
    assert.same({ 2 }, t:settle(1, "done"))
    assert.equal("crashed", t.q.dead:oldest().reason)
  end)

  it("goes on once an item has expired or is removed", function()
    t.q:push(1, { ttl = 10 })
    t.q:push_many { 2, 3 }
    t.q:push(4, { delay = 1000 })
    t.q:push(5)
    t.store:advance(10)
    t.q:remove(2)
    assert.same({ 3 }, t:settle(9, "done"))
    t.q:remove(4)
    assert.same({ 5 }, t:settle(9, "done"))
  end)

  it("goes on once a waiting item has expired", function()
    t.q:push(1, { ttl = 10, delay = 1000 })
    t.q:push(2)
    t.store:advance(10)
    assert.same({ 2 }, t:settle(9, "done"))
  end)

  it("keeps each priority's order by itself", function()
    t.q:push_many({ "high 1", "high 2" }, { priority = 1 })
    t.q:push_many { "low 1", "low 2" }
    assert.same({ "high 1" }, t:settle(1, "retry"))
    assert.same({ "low 1", "low 2" }, t:settle(9, "done"))
    t.store:advance(60)
    assert.same({ "high 1" }, t:settle(1, "done"))
    assert.same({ "high 2" }, t:settle(1, "done"))
  end)

  -- On PostgreSQL the items that are released stay in one row, around those
  -- that go on by themselves, and were delivered with it.
  local function one_waits_among(n, which)
    local list = {}
    for i = 1, n do list[i] = i end
    t.q:push_many(list)
    local batch = t:take(n)
    batch:release()
    batch:item(which):retry { delay = 10 }
    batch:settle()
  end

  it("waits for an item between others that were released", function()
    one_waits_among(3, 2)
    assert.same({ 1 }, payloads(t.q:peek(9)))
    assert.same({ 1 }, t:settle(9, "done"))
    assert.same({}, payloads(t.q:peek(9)))
    assert.equal(0, #t:take(9))
    t.store:advance(10)
    assert.same({ 2, 3 }, payloads(t.q:peek(9)))
    assert.same({ 2 }, t:settle(1, "done"))
    assert.same({ 3 }, t:settle(9, "done"))
  end)

  it("waits for it when the items before it were removed", function()
    one_waits_among(4, 3)
    t.q:remove(1)
    t.q:remove(2)
    assert.equal(0, #t:take(9))
    t.store:advance(10)
    assert.same({ 3 }, t:settle(1, "done"))
    assert.same({ 4 }, t:settle(9, "done"))
  end)

  it("waits for it when a lease of the items around it ran out", function()
    one_waits_among(9, 2)
    local batch = t:take(9, 1)
    assert.same({ 1 }, payloads(batch))
    batch:release()
    batch:settle()
    assert.same({ 1 }, payloads(t:take(9)))
    t.store:advance(31)
    local order = {}
    while t.q:length().total > 0 do
      for _, n in ipairs(t:settle(9, "done")) do order[#order + 1] = n end
    end
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, order)
  end)

  it("waits for it when the queue was not ordered then", function()
    t.q = t.store:queue("orders", { ordered = false })
    one_waits_among(3, 2)
    t.q = t.store:queue("orders", { ordered = true })
    assert.same({ 1 }, t:settle(9, "done"))
    assert.equal(0, #t:take(9))
  end)

  it("may become one while items are on their way", function()
    t.q = t.store:queue("orders", { ordered = false })
    t.q:push_many { 1, 2, 3 }
    t:settle(1, "retry")
    t.q = t.store:queue("orders", { ordered = true })
    assert.equal(0, #t:take(9))
    t.store:queue("orders", { ordered = false })
    assert.same({ 2, 3 }, t:settle(9, "done"))
  end)

  it("stays in order when the handler fails now and then", function()
    local list, calls, done = {}, 0, {}
    for i = 1, 60 do list[i] = i end
    t.q:push_many(list)
    t.q:work(function(n)
      calls = calls + 1
      if calls % 3 == 0 then error "now and then" end
      table.insert(done, n)
    end, { stop_when_empty = true, batch = 7 })
    assert.same(list, done)
  end)
end)

describe("in any course of things an ordered queue", function()
  local random = math.random

  local function some(n)
    local list = {}
    for i = 1, n do list[i] = i end
    return list
  end

  -- Ids of all that are not settled, by priority.
  local function unsettled()
    local weights = { [0] = {}, {} }
    for item in t.q:each() do weights[item.priority][item.id] = true end
    return weights
  end

  -- A batch is the beginning of its priorities, of what has not died by now.
  local function assert_in_order(batch, weights)
    local taken, last = { [0] = {}, {} }, { [0] = 0, 0 }
    for i = 1, #batch do
      local item = batch:item(i)
      assert.is_true(item.id > last[item.priority])
      taken[item.priority][item.id] = true
      last[item.priority] = item.id
    end
    for priority, ids in pairs(weights) do
      for id in pairs(ids) do
        assert(id > last[priority] or taken[priority][id],
               ("%d was taken before %d"):format(last[priority], id))
      end
    end
  end

  local VERBS = {
    function(item) item:done() end,
    function(item) item:done() end,
    function(item) item:retry { delay = random(0, 20) } end,
    function(item) item:release() end,
    function(item) item:snooze(random(0, 20)) end,
    function(item) item:dead() end,
  }

  local function step()
    local what = random(10)
    if what <= 3 then
      t.q:push_many(some(random(5)), {
        priority = random(0, 1),
        delay = what == 1 and random(0, 30) or nil,
      })
      return
    end
    local batch = t:take(random(5))
    assert_in_order(batch, unsettled())
    for i = 1, #batch do
      if what < 9 then VERBS[random(#VERBS)](batch:item(i)) end
    end
    batch:settle() -- or else the lease runs out
    t.store:advance(random(0, 15))
  end

  it("never delivers an item before an earlier one is over", function()
    math.randomseed(helper.seed)
    for _ = 1, 600 do step() end
    t.store:advance(1000)
    while t.q:length().total > 0 do
      local batch = t:take(50)
      batch:done()
      batch:settle()
      t.store:advance(31)
    end
    assert.is_true(t.q:stats().done > 100)
  end)
end)
