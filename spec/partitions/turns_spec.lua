-- SPDX-License-Identifier: MIT
--
-- Partitions take turns, and may be in strict order.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local payloads = helper.payloads
local settle = queue_of.settle_each

local it = helper.checked(it)

local t

local function fill(...) t:fill(...) end

describe("turns", function()
  before_each(function() t = queue_of.new {} end)

  it("give the first item of a new partition the next batch", function()
    fill("big", 1000)
    fill("new", 1)
    local found = table.concat(payloads(t:take(10)), " ")
    assert.matches("new1", found)
  end)

  it("share a batch among partitions", function()
    for _, key in ipairs { "a", "b", "c" } do fill(key, 100) end
    local counts = {}
    for _, payload in ipairs(payloads(t:take(30))) do
      local key = payload:sub(1, 1)
      counts[key] = (counts[key] or 0) + 1
    end
    assert.same({ a = 10, b = 10, c = 10 }, counts)
  end)

  it("go round one by one", function()
    fill("a", 3)
    fill("b", 3)
    local order = {}
    for _ = 1, 6 do order[#order + 1] = payloads(t:take(1))[1] end
    assert.same({ "a1", "b1", "a2", "b2", "a3", "b3" }, order)
  end)

  it("go round also where a batch is bounded by bytes", function()
    fill("a", 50)
    fill("b", 2)
    local first = {}
    for i = 1, 4 do
      first[i] = payloads(assert(t.q:take { limit = 20, bytes = 1 }))[1]
    end
    assert.matches("b1", table.concat(first, " "))
    assert.matches("b2", table.concat(first, " "))
  end)

  it("are also those of items without a partition", function()
    fill("a", 100)
    t.q:push "plain"
    assert.matches("plain", table.concat(payloads(t:take(10)), " "))
  end)

  it("keep the order of pushes within a partition", function()
    for i = 1, 20 do
      t.q:push("a" .. i, { partition = "a" })
      t.q:push("b" .. i, { partition = "b" })
    end
    local last = { a = 0, b = 0 }
    for _ = 1, 10 do
      for _, payload in ipairs(payloads(t:take(4))) do
        local key, n = payload:sub(1, 1), tonumber(payload:sub(2))
        assert.equal(last[key] + 1, n)
        last[key] = n
      end
    end
    assert.same({ a = 20, b = 20 }, last)
  end)

  it("stand behind those of higher priorities", function()
    fill("a", 2, { priority = 1 })
    fill("b", 2, { priority = 9 })
    assert.same({ "b1", "b2", "a1" }, payloads(t:take(3)))
  end)

  it("give a partition so many of a batch at most", function()
    t:queue { partitions = { batch = 2 } }
    fill("a", 10)
    assert.equal(10, #t:take(10)) -- nobody else wants them
    fill("a", 10)
    fill("b", 10)
    local batch = t:take(4)
    assert.same({ "a1", "a2", "b1", "b2" }, payloads(batch))
  end)
end)

describe("strict order of partitions", function()
  before_each(function()
    t = queue_of.new { partitions = { ordered = true }, lease = 30 }
  end)

  it("delivers nothing while an earlier item is leased", function()
    fill("a", 4)
    fill("b", 4)
    local batch = t:take(4)
    assert.same({ "a1", "b1" }, payloads(batch))
    assert.equal(0, #t:take(4))
    settle(batch, "done")
    assert.same({ "a2", "b2" }, payloads(t:take(10)))
  end)

  it("lets a batch have several of one if the policy says so", function()
    t:queue { partitions = { ordered = true, batch = 3 } }
    fill("a", 4)
    fill("b", 1)
    local batch = t:take(10)
    assert.same({ "a1", "a2", "a3", "b1" }, payloads(batch))
    settle(batch, "done")
    assert.same({ "a4" }, payloads(t:take(10)))
  end)

  it("delivers nothing while an earlier item waits", function()
    fill("a", 2)
    local batch = t:take(1)
    settle(batch, "snooze", 10)
    assert.equal(0, #t:take(10))
    t.store:advance(11)
    assert.same({ "a1" }, payloads(t:take(10)))
  end)

  it("delivers what is before an item that was delayed", function()
    fill("a", 1)
    t.q:push("late", { partition = "a", delay = 60 })
    t.q:push("after", { partition = "a" })
    settle(t:take(10), "done")
    assert.equal(0, #t:take(10)) -- "late" waits
    t.store:advance(61)
    assert.same({ "late" }, payloads(t:take(10)))
  end)

  it("is that of each partition alone", function()
    fill("a", 2)
    fill("b", 2)
    local batch = t:take(2)
    batch:item(1):done()
    batch:settle()
    assert.same({ "a2" }, payloads(t:take(10)))
  end)
end)
