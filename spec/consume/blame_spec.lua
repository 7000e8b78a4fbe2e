-- SPDX-License-Identifier: MIT
--
-- Blame: a failure spends an attempt, a lease that ran out a crash, and what
-- crashed comes again in halves, until the poison is alone.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local range, payloads = helper.range, helper.payloads

local t

before_each(function() t = queue_of.new() end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

-- A worker that dies whenever it has one of `poison` in its hands; it is
-- done with everything else. Returns its takes.
local function work(poison, items)
  local takes = 0
  while true do
    local batch = t:take(items)
    if #batch == 0 then return takes end
    takes = takes + 1
    local dies = false
    for _, value in ipairs(payloads(batch)) do dies = dies or poison[value] end
    if dies then
      t.store:advance(31)
    else
      batch:done()
      assert(batch:settle())
    end
  end
end

describe("a poisonous item", function()
  it("ends up alone and dies, its neighbours get done", function()
    t.q:push_many(range(8))
    work({ [5] = true }, 8)
    assert.equal(7, t.q:stats().done)
    assert.equal(0, t.q:length().total)
    assert.equal(1, t.q.dead:count())
    local dead_letter = t.q.dead:oldest()
    assert.equal(5, dead_letter.payload)
    assert.equal("crashed", dead_letter.reason)
    assert.equal("the lease ran out", dead_letter.error)
    assert.equal(0, dead_letter.attempts)
    assert.equal(dead_letter.crashes, dead_letter.deliveries)
  end)

  it("dies alone even when one crash is the limit (guarantee 5)", function()
    t.q = t.store:queue("orders", { max_crashes = 1 })
    t.q:push_many(range(50))
    work({ [1] = true, [26] = true, [50] = true }, 50)
    assert.equal(47, t.q:stats().done)
    local dead = {}
    for dead_letter in t.q.dead:each() do dead[dead_letter.payload] =
      dead_letter.reason end
    assert.same({ [1] = "crashed", [26] = "crashed", [50] = "crashed" }, dead)
  end)

  it("is found in a number of takes that grows with the logarithm", function()
    t.q:push_many(range(1024))
    local takes = work({ [700] = true }, 1024)
    assert.is_true(takes <= 2 * 10 + 3, takes .. " takes")
    assert.equal(1023, t.q:stats().done)
  end)

  it("alone from the start has its limit of crashes", function()
    t.q = t.store:queue("orders", { max_crashes = 4 })
    t.q:push "bad"
    assert.equal(4, work({ bad = true }, 1))
    assert.equal(4, t.q.dead:oldest().crashes)
    assert.equal(4, t.q.dead:oldest().failures)
  end)

  it("may crash for ever where there is no limit", function()
    t.q = t.store:queue("orders", { max_crashes = math.huge })
    t.q:push "bad"
    for i = 0, 19 do
      assert.equal(i, t:take():item(1).crashes)
      t.store:advance(31)
    end
    assert.equal(0, t.q.dead:count())
  end)

  it("comes in a batch of its own, without fresh items", function()
    t.q:push_many(range(4))
    t:take(4)
    t.store:advance(31)
    t.q:push_many { 5, 6 }
    assert.same({ 1, 2 }, payloads(t:take(9)))
    assert.same({ 3, 4 }, payloads(t:take(9)))
    assert.same({ 5, 6 }, payloads(t:take(9)))
  end)
end)

describe("blame (guarantee 5)", function()
  it("counts attempts, deliveries and crashes apart", function()
    t.q:push "a"
    local batch
    for _ = 1, 2 do
      batch = t:take()
      batch:retry { delay = 0 }
      batch:settle()
    end
    for _ = 1, 3 do
      batch = t:take()
      batch:release()
      batch:settle()
    end
    t:take()
    t.store:advance(31)
    local item = t:take():item(1)
    assert.same({ 2, 7, 1 }, { item.attempts, item.deliveries, item.crashes })
  end)

  it("is on nobody for what was released, snoozed or closed", function()
    t.q = t.store:queue("orders", { max_attempts = 1, max_crashes = 1 })
    t.q:push "a"
    for i = 1, 30 do
      local batch = t:take()
      if i % 3 == 0 then batch:release() end
      if i % 3 == 1 then batch:snooze(1) end
      batch:close()
      t.store:advance(1)
    end
    local item = t.q:get(1)
    assert.same({ 0, 30, 0 }, { item.attempts, item.deliveries, item.crashes })
  end)

  it("for a crash spends no attempt, for a failure no crash", function()
    t.q = t.store:queue("orders", { max_attempts = 2, max_crashes = 2 })
    t.q:push "a"
    t:take()
    t.store:advance(31)
    local batch = t:take()
    batch:retry { delay = 0 }
    batch:settle()
    local item = t:take():item(1)
    assert.same({ 1, 1 }, { item.attempts, item.crashes })
    assert.equal(0, t.q.dead:count())
  end)
end)

-- The cause: only a take noted the failure. What was ended or changed by hand
-- before that, and expired items, had the crash at most, its neighbours never
-- had its error, and in some ways the queue did not count it.
describe("a lease that ran out, and was met by no take", function()
  local RAN_OUT = "the lease ran out"

  local verbs = {
    kill = function(q, id) assert(q:kill(id)) end,
    move = function(q, id)
      assert(q:move(id, assert(t.store:queue "other")))
    end,
    edit = function(q, id) assert(q:edit(id, "new")) end,
    remove = function(q, id) assert(q:remove(id)) end,
    cancel = function(q, id) assert(q:cancel(id)) end,
  }

  -- Three items whose lease has run out; the id of the first.
  local function fill(options, partition)
    t = queue_of.new(options)
    local first = assert(t.q:push_many({ 1, 2, 3 }, { partition = partition }))
    assert.equal(3, #t:take(3))
    t.store:advance(31)
    return first
  end

  for _, partition in ipairs { false, "p" } do
    local of = partition and " of a partition" or ""

    for name, verb in pairs(verbs) do
      it(("is a crash of each%s, beside one that meets %s"):format(of, name),
         function()
        local first = fill({}, partition or nil)
        verb(t.q, first)
        for _ = 1, 3 do -- what crashed comes in halves
          for i, item in t:take(3):each() do
            assert.same({ 1, RAN_OUT }, { item.crashes, item.error }, i)
          end
        end
        assert.equal(3, t.q:stats().crashed)
      end)
    end

    it("is told by the dead letter of one that is killed" .. of, function()
      local first = fill({}, partition or nil)
      assert(t.q:kill(first))
      local d = t.q.dead:oldest()
      assert.same({ 1, RAN_OUT, 1 }, { d.crashes, d.error, #d.history })
    end)

    it("goes with one that is moved" .. of, function()
      local first = fill({}, partition or nil)
      verbs.move(t.q, first)
      local item = assert(t.store:queue "other"):take():item(1)
      assert.same({ 1, RAN_OUT }, { item.crashes, item.error })
    end)

    it("is told by those that have expired" .. of, function()
      fill({ ttl = 40 }, partition or nil)
      t.store:advance(40)
      assert(t.store:maintain())
      assert.equal(3, t.q.dead:count())
      for d in t.q.dead:each() do
        assert.same({ "expired", 1, RAN_OUT }, { d.reason, d.crashes, d.error })
      end
      assert.equal(3, t.q:stats().crashed)
    end)

    it("is counted of those that are dropped or purged" .. of, function()
      fill({ ttl = 40, on_expire = "drop" }, partition or nil)
      t.store:advance(40)
      assert(t.store:maintain())
      assert.same({ 3, 3 }, { t.q:stats().expired, t.q:stats().crashed })
      fill({}, partition or nil)
      assert.equal(3, t.q:purge())
      assert.equal(3, t.q:stats().crashed)
    end)
  end
end)
