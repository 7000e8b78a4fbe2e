-- SPDX-License-Identifier: MIT
--
-- What is stored of partitions: no trace of those that have no items any more,
-- and how far the claims are passed before the first item that has none.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local stored = require "spec.helper.stored"

describe("a partition without items", function()
  -- Only takes removed what was left of partitions: without them it grew.
  it("leaves no trace where nobody takes", function()
    local t = queue_of.new { max_items = 2, overflow = "drop_oldest" }
    local function turns()
      return #stored.read(t.store.path).turns
    end
    for i = 1, 20 do assert(t.q:push(i, { partition = "key " .. i })) end
    assert(t.q:hold(5, { partition = "held" }))
    assert.equal(20, turns())
    assert.equal(3, t.q:stats().partitions)
    t.store:advance(6)
    assert(t.store:maintain())
    assert.equal(2, turns())
    assert.equal(2, t.q:stats().partitions)
    assert.same({ 19, 20 }, helper.payloads(t:take(10)))
  end)
end)

describe("the first item of partitions that is ready", function()
  local t

  before_each(function()
    t = queue_of.new { max_items = 3, overflow = "drop_oldest" }
    assert(t.q:push("late", { partition = "a", delay = 10 }))
    assert(t.q:push("b1", { partition = "b" }))
    assert.same({ "b1" }, helper.payloads(t:take(1)))
    assert(t.q:push("c1", { partition = "c" }))
  end)

  local function listed()
    local of = stored.read(t.store.path).queues[1].value
    return stored.record("priority", of["priority list"][1]).listed
  end

  it("is not looked for among the claims before it", function()
    assert.equal(3, listed())
    t:take(1)
    assert.equal(4, listed())
  end)

  it("may be one that was delayed, once a take has met it", function()
    t.store:advance(11)
    assert.same({ "c1" }, helper.payloads(t:take(1)))
    assert.equal(1, listed())
    assert.same({}, t.store:check())
    assert(t.q:push("d1", { partition = "d" }))
    assert.equal(1, t.q:stats().dropped)
    assert.is_nil((t.q:get(1)))
  end)
end)
