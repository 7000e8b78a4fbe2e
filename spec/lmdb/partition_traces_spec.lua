-- SPDX-License-Identifier: MIT
--
-- What is stored of partitions that have no items any more.

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
