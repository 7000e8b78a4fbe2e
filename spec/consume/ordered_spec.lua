-- SPDX-License-Identifier: MIT
--
-- Strict order (guarantee 9): within a priority of an ordered queue
-- nothing is delivered while an earlier item is leased or waiting.

local helper = require "spec.helper"
local respool = require "respool"
local payloads = helper.payloads

local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue("orders", {
    ordered = true, max_attempts = 3,
    retry = respool.backoff.constant { delay = 60 },
  }))
end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

local function take(n)
  return assert(q:take { limit = n or 1 })
end

-- Takes up to n items, which become what `verb` says.
local function settle(n, verb, argument)
  local batch = take(n)
  batch[verb](batch, argument)
  assert(batch:settle())
  return payloads(batch)
end

describe("an ordered queue", function()
  it("hands out nothing while something is leased", function()
    q:push_many { 1, 2, 3 }
    local batch = take(2)
    assert.same({ 1, 2 }, payloads(batch))
    assert.equal(0, #take())
    batch:done()
    batch:settle()
    assert.same({ 3 }, payloads(take()))
  end)

  it("hands out nothing while part of a batch is not settled", function()
    q:push_many { 1, 2, 3, 4 }
    local batch = take(3)
    batch:item(1):done()
    batch:item(3):done()
    batch:settle()
    assert.equal(0, #take())
    batch:item(2):done()
    batch:settle()
    assert.same({ 4 }, payloads(take()))
  end)

  it("waits for an item that is to be tried again", function()
    q:push_many { 1, 2, 3 }
    settle(1, "retry")
    assert.equal(0, #take(9))
    store:advance(59)
    assert.equal(0, #take(9))
    store:advance(1)
    assert.same({ 1 }, settle(1, "done"))
    assert.same({ 2, 3 }, settle(9, "done"))
  end)

  it("waits for an item in the middle, then goes on behind it", function()
    q:push_many { 1, 2, 3, 4 }
    local batch = take(3)
    batch:done()
    batch:item(2):retry { delay = 10 }
    batch:settle()
    assert.equal(0, #take(9))
    store:advance(10)
    assert.same({ 2 }, settle(1, "done"))
    assert.same({ 4 }, settle(1, "done"))
  end)

  it("waits for a snoozed item", function()
    q:push_many { 1, 2 }
    settle(1, "snooze", 40)
    store:advance(39)
    assert.equal(0, #take(9))
    store:advance(1)
    assert.same({ 1 }, settle(1, "done"))
    assert.same({ 2 }, settle(1, "done"))
  end)

  it("waits for a delayed item that was pushed before", function()
    q:push("late", { delay = 100 })
    q:push "now"
    assert.equal(0, #take(9))
    store:advance(100)
    assert.same({ "late" }, settle(1, "done"))
    assert.same({ "now" }, settle(1, "done"))
  end)

  -- A look at the priority said that nothing could be taken as long as anything
  -- waited there, whether before or behind the next item.
  it("does not wait for a delayed item that was pushed behind", function()
    q:push "now"
    q:push("late", { delay = 100 })
    assert.same({ "now" }, settle(9, "done"))
  end)

  it("waits for the first of several that wait, not the soonest", function()
    q:push_many { 1, 2, 3 }
    local batch = take(3)
    batch:item(1):retry { delay = 30 }
    batch:item(2):retry { delay = 10 }
    batch:item(3):retry { delay = 20 }
    batch:settle()
    store:advance(20)
    assert.equal(0, #take(9))
    store:advance(10)
    for i = 1, 3 do assert.same({ i }, settle(1, "done")) end
  end)

  -- What was due behind it hid the due time of the first.
  it("wakes one who waits when the first of them is due", function()
    q:push_many { 1, 2 }
    local batch, due = take(2), store:now() + 60
    batch:item(1):retry()
    batch:item(2):retry { delay = 10 }
    batch:settle()
    store:advance(20)
    assert.same({ 1 }, payloads(q:take { timeout = 100 }))
    assert.near(due, store:now(), 0.01)
  end)

  it("hands out again first what was released", function()
    q:push_many { 1, 2, 3 }
    local batch = take(2)
    batch:item(1):done()
    batch:item(2):release()
    batch:settle()
    assert.same({ 2 }, settle(1, "done"))
    assert.same({ 3 }, settle(1, "done"))
  end)

  it("hands out again first what a crash left, in halves", function()
    q:push_many { 1, 2, 3, 4, 5 }
    take(4)
    store:advance(31)
    assert.same({ 1, 2 }, settle(9, "done"))
    assert.same({ 3, 4 }, settle(9, "done"))
    assert.same({ 5 }, settle(9, "done"))
  end)

  it("does not hand out the second half before the first is over", function()
    q:push_many { 1, 2, 3, 4 }
    take(4)
    store:advance(31)
    local batch = take(9)
    assert.same({ 1, 2 }, payloads(batch))
    assert.equal(0, #take(9))
    batch:retry { delay = 10 }
    batch:settle()
    assert.equal(0, #take(9))
  end)

  it("goes on once an item is dead", function()
    q:push_many { 1, 2, 3 }
    assert.same({ 1 }, settle(1, "dead"))
    for _ = 1, 3 do
      assert.same({ 2 }, settle(1, "retry"))
      store:advance(60)
    end
    assert.same({ 3 }, settle(9, "done"))
    assert.equal(2, q.dead:count())
  end)

  it("goes on once an item has crashed too often", function()
    q:push_many { 1, 2 }
    for _ = 1, 3 do
      assert.same({ 1 }, payloads(take(1)))
      store:advance(31)
    end
    assert.same({ 2 }, settle(1, "done"))
    assert.equal("crashed", q.dead:oldest().reason)
  end)

  it("goes on once an item has expired or is removed", function()
    q:push(1, { ttl = 10 })
    q:push_many { 2, 3 }
    q:push(4, { delay = 1000 })
    q:push(5)
    store:advance(10)
    q:remove(2)
    assert.same({ 3 }, settle(9, "done"))
    q:remove(4)
    assert.same({ 5 }, settle(9, "done"))
  end)

  it("goes on once a waiting item has expired", function()
    q:push(1, { ttl = 10, delay = 1000 })
    q:push(2)
    store:advance(10)
    assert.same({ 2 }, settle(9, "done"))
  end)

  it("keeps each priority's order by itself", function()
    q:push_many({ "high 1", "high 2" }, { priority = 1 })
    q:push_many { "low 1", "low 2" }
    assert.same({ "high 1" }, settle(1, "retry"))
    assert.same({ "low 1", "low 2" }, settle(9, "done"))
    store:advance(60)
    assert.same({ "high 1" }, settle(1, "done"))
    assert.same({ "high 2" }, settle(1, "done"))
  end)

  it("may become one while items are on their way", function()
    q = store:queue("orders", { ordered = false })
    q:push_many { 1, 2, 3 }
    settle(1, "retry")
    q = store:queue("orders", { ordered = true })
    assert.equal(0, #take(9))
    store:queue("orders", { ordered = false })
    assert.same({ 2, 3 }, settle(9, "done"))
  end)

  it("stays in order when the handler fails now and then", function()
    local list, calls, done = {}, 0, {}
    for i = 1, 60 do list[i] = i end
    q:push_many(list)
    q:work(function(n)
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
    for item in q:each() do weights[item.priority][item.id] = true end
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
      q:push_many(some(random(5)), {
        priority = random(0, 1),
        delay = what == 1 and random(0, 30) or nil,
      })
      return
    end
    local batch = take(random(5))
    assert_in_order(batch, unsettled())
    for i = 1, #batch do
      if what < 9 then VERBS[random(#VERBS)](batch:item(i)) end
    end
    batch:settle() -- or else the lease runs out
    store:advance(random(0, 15))
  end

  it("never hands out an item before an earlier one is over", function()
    math.randomseed(helper.seed)
    for _ = 1, 600 do step() end
    store:advance(1000)
    while q:length().total > 0 do
      local batch = take(50)
      batch:done()
      batch:settle()
      store:advance(31)
    end
    assert.is_true(q:stats().done > 100)
  end)
end)
