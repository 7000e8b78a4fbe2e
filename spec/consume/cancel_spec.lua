-- SPDX-License-Identifier: MIT
--
-- Cancelling items, waiting and leased.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local code = helper.code

local t

before_each(function() t = queue_of.new() end)

local it = helper.checked(it)

-- The payloads of what is taken, which is done then.
local function take_all()
  local batch, list = assert(t.q:take { limit = 100 }), {}
  for payload, item in batch:each() do
    list[#list + 1] = payload
    item:done()
  end
  assert(batch:settle())
  return list
end

-- A batch of n items, whose ids are from the second result on.
local function taken(n, given)
  local list = {}
  for i = 1, n do list[i] = i end
  local first = assert(t.q:push_many(list, given))
  return assert(t.q:take { limit = n }), first
end

local function is_lost(n, batch, ...)
  local ok, message, reason = ...
  assert.is_nil(ok)
  assert.equal("LEASE_LOST", reason)
  assert.matches("is no longer held: it ran out or was cancelled", message)
  assert.equal(n, batch.lost)
end

describe("a cancelled item of a batch in work", function()
  local function works(cancel)
    local first = assert(t.q:push_many { 1, 2, 3 })
    local seen = {}
    local counts = assert(t.q:work(function(n)
      seen[#seen + 1] = n
      if n == 1 then cancel(first + 1) end
    end, { batch = 3, stop_when_empty = true }))
    assert.same({ 1, 3 }, seen)
    assert.equal(2, t.q:stats().done)
    return counts
  end

  it("is not begun", function()
    works(function(id) assert.is_true(t.q:cancel(id)) end)
  end)

  it("is not begun where another cancelled it while a handler took long",
     function()
    local other = assert(helper.open(t.store.path, { clock = "manual" }))
    works(function(id)
      other:advance(t.store:now() - other:now())
      assert.is_true(other:queue(t.q.name, { create = false }):cancel(id))
      t.store:advance(0.02)
    end)
  end)
end)

describe("a cancelled item that waits", function()
  it("is removed, ready or scheduled", function()
    local first = assert(t.q:push_many { 1, 2, 3 })
    local later = assert(t.q:push(4, { delay = 60 }))
    assert.is_true(t.q:cancel(first + 1))
    assert.is_true(t.q:cancel(later))
    assert.same({ 1, 3 }, take_all())
    assert.equal(2, t.q:stats().removed)
    assert.equal(0, t.q:length().total)
  end)

  it("is named by its key, which is free then", function()
    assert(t.q:push("a", { key = "k" }))
    assert.is_true(t.q:cancel { key = "k" })
    assert(t.q:push("b", { key = "k" }))
    assert.same({ "b" }, take_all())
  end)

  it("is in the queue", function()
    assert.equal("NOT_FOUND", code(t.q:cancel(1)))
    assert.equal("NOT_FOUND", code(t.q:cancel { key = "k" }))
  end)

  it("has a lease that ran out", function()
    local _, first = taken(3)
    t.store:advance(3600)
    assert.is_true(t.q:cancel(first + 1))
    local stats = t.q:stats()
    assert.equal(3, stats.crashed)
    assert.equal(1, stats.removed)
    assert.same({ 1, 3 }, take_all())
  end)
end)

describe("a cancelled item that is leased", function()
  it("is gone at once, and its outcome is refused", function()
    local batch, id = taken(1)
    assert.is_false(batch[1]:cancelled())
    assert.is_true(t.q:cancel(id))
    assert.is_true(batch[1]:cancelled())
    assert.equal("NOT_FOUND", code(t.q:get(id)))
    assert.equal(0, t.q:length().total)
    batch[1]:done()
    is_lost(1, batch, batch:settle())
    local stats = t.q:stats()
    assert.equal(0, stats.done)
    assert.equal(1, stats.removed)
    assert.equal(1, stats.lease_lost)
  end)

  it("leaves those that were taken with it to their handler", function()
    local batch, first = taken(5)
    assert.is_true(t.q:cancel(first))
    assert.is_true(t.q:cancel(first + 3))
    assert.is_true(batch[1]:cancelled())
    assert.is_false(batch[2]:cancelled())
    assert(batch:done())
    is_lost(2, batch, batch:settle())
    local stats = t.q:stats()
    assert.equal(3, stats.done)
    assert.equal(2, stats.removed)
    assert.equal(2, stats.lease_lost)
    assert.same({}, take_all())
  end)

  it("does not come back with the outcomes of the others", function()
    local batch, first = taken(6)
    assert.is_true(t.q:cancel(first + 1))
    batch[1]:done()
    batch[2]:retry { delay = 1 }
    batch[3]:snooze(1)
    batch[4]:dead()
    batch[5]:release()
    is_lost(1, batch, batch:settle())
    assert.is_true(t.q:cancel(first + 5)) -- has no outcome yet
    batch[6]:release()
    is_lost(2, batch, batch:settle())
    t.store:advance(2)
    local left = take_all()
    table.sort(left)
    assert.same({ 3, 5 }, left)
    assert.equal(1, t.q.dead:count())
  end)

  it("does not come back with a release of all", function()
    local batch, first = taken(4)
    assert.is_true(t.q:cancel(first))
    assert.is_true(t.q:cancel(first + 2))
    batch:close()
    assert.same({ 2, 4 }, take_all())
  end)

  it("does not come back when the lease of the others runs out", function()
    local _, first = taken(4)
    assert.is_true(t.q:cancel(first))
    assert.is_true(t.q:cancel(first + 1))
    t.store:advance(3600)
    assert.same({ 3 }, take_all())
    assert.is_true(t.q:cancel(first + 3))
    assert.same({}, take_all())
  end)

  it("is given up between two settles of its batch", function()
    local batch, first = taken(4)
    batch[1]:done()
    assert(batch:settle())
    assert.is_true(t.q:cancel(first + 1))
    batch[3]:done()
    assert(batch:settle())
    batch[2]:done()
    batch[4]:done()
    is_lost(1, batch, batch:settle())
    assert.equal(3, t.q:stats().done)
  end)

  it("pushes nothing", function()
    local other = assert(t.store:queue "other")
    local batch, first = taken(3)
    for i = 1, 3 do
      batch[i]:push(other, i)
      batch[i]:done()
    end
    assert.is_true(t.q:cancel(first + 1))
    is_lost(1, batch, batch:settle())
    local pushed = assert(other:take { limit = 9 })
    assert.equal(2, #pushed)
    assert.same({ 1, 3 }, { pushed[1].payload, pushed[2].payload })
  end)

  it("makes a transaction fail as a whole", function()
    local batch, first = taken(2)
    assert.is_true(t.q:cancel(first))
    assert.equal("LEASE_LOST", code(t.store:transaction(function(tx)
      tx:done(batch[1])
      tx:done(batch[2])
    end)))
    assert.equal(0, t.q:stats().done)
    batch:close()
    assert.same({ 2 }, take_all())
  end)

  it("is not extended, the others are", function()
    local batch, first = taken(2)
    assert.is_true(t.q:cancel(first))
    assert(batch:extend(100))
    t.store:advance(90)
    assert.is_true(batch[1]:cancelled())
    assert.is_false(batch[2]:cancelled())
    batch:done()
    is_lost(1, batch, batch:settle())
  end)

  it("is seen within a second where another cancels it", function()
    local batch, id = taken(1)
    local other = assert(helper.open(t.store.path, { clock = "manual" }))
    assert.is_false(batch[1]:cancelled())
    assert.is_true(assert(other:queue "orders"):cancel(id))
    t.store:advance(1)
    assert.is_true(batch[1]:cancelled())
    batch:close()
    other:close()
  end)

  it("frees its key", function()
    assert(t.q:push("a", { key = "k" }))
    local batch = assert(t.q:take())
    assert.is_true(t.q:cancel { key = "k" })
    assert(t.q:push("b", { key = "k" }))
    batch:close()
    assert.same({ "b" }, take_all())
  end)

  it("lets an ordered queue go on", function()
    t:queue { ordered = true }
    local batch, id = taken(1)
    assert(t.q:push "next")
    assert.equal(0, #assert(t.q:take()))
    assert.is_true(t.q:cancel(id))
    assert.same({ "next" }, take_all())
    batch:close()
  end)

  it("ends the work on it, which counts it as lost", function()
    local seen = {}
    assert(t.q:push_many { 1, 2, 3 })
    local counts = assert(t.q:work(function(n, item)
      if n == 2 then assert.is_true(t.q:cancel(item.id)) end
      seen[n] = item:cancelled()
    end, { stop_when_empty = true, batch = 3 }))
    assert.same({ false, true, false }, seen)
    assert.equal(2, counts.done)
    assert.equal(1, counts.lost)
  end)
end)

describe("item:cancelled", function()
  it("is true once the lease ran out and another has the item", function()
    local batch = taken(1)
    t.store:advance(3600)
    assert.is_false(batch[1]:cancelled())
    local other = assert(t.q:take())
    t.store:advance(1)
    assert.is_true(batch[1]:cancelled())
    assert.is_false(other[1]:cancelled())
    other:done()
    assert(other:settle())
    assert.is_false(other[1]:cancelled())
  end)
end)
