-- SPDX-License-Identifier: MIT
--
-- Partitions: a key of items (guarantees 4, 9, 10), and what a queue tells of
-- them and does with them.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local respool = require "respool"
local transfer = require "spec.helper.transfer"
local payloads = helper.payloads
local settle = queue_of.settle_each

local it = helper.checked(it)

local t

local function fill(...) t:fill(...) end
local function partition(key) return t:partition(key) end

describe("an item's partition", function()
  before_each(function() t = queue_of.new {} end)

  it("is given back with the item", function()
    t.q:push("x", { partition = "tenant-42" })
    t.q:push("y")
    local batch = t:take(10)
    local found = {}
    for i = 1, 2 do
      found[batch:item(i).payload] = batch:item(i).partition or "none"
    end
    assert.same({ x = "tenant-42", y = "none" }, found)
  end)

  it("may be any bytes, 1 to 255 of them", function()
    for _, key in ipairs { "\0", ("\255"):rep(255) } do
      t.q:push(1, { partition = key })
      local batch = t:take(1)
      assert.equal(key, batch:item(1).partition)
      settle(batch, "done")
    end
    for _, key in ipairs { "", ("x"):rep(256), 7, true } do
      local ok, message = pcall(t.q.push, t.q, 1, { partition = key })
      assert.is_false(ok)
      assert.matches("partition.*a string of 1 to 255 bytes", message)
    end
  end)

  it("is said by a function for each of many", function()
    t.q:push_many({ 1, 2, 3, 4 }, {
      partition = function(n) return n < 4 and "p" .. n % 2 or nil end,
    })
    local sizes = {}
    for _, p in ipairs(t.q:partitions()) do sizes[p.key] = p.ready end
    assert.same({ p0 = 1, p1 = 2 }, sizes)
    assert.equal(4, #t:take(10))
  end)

  it("goes with a dead letter, and comes back with its replay", function()
    fill("a", 1)
    settle(t:take(1), "dead")
    assert.is_nil(partition "a")
    assert(t.store:dead "orders":replay())
    assert.equal(1, partition "a".ready)
    assert.equal("a", t:take(1):item(1).partition)
  end)

  it("fails by itself in a replay to a queue in strict order", function()
    local ordered = assert(t.store:queue("ordered", { ordered = true }))
    assert(t.q:push_many { "x", "y" })
    fill("a", 1)
    settle(t:take(10), "dead")
    local dead = t.store:dead "orders"
    for _, dry_run in ipairs { true, false } do
      local counts = assert(dead:replay { to = ordered, dry_run = dry_run })
      assert.same({ 2, 1 }, { counts.moved, counts.failed })
      assert.matches("^dead letter %d: queue 'ordered': a queue in strict "
        .. "order has no partitions$", counts.errors[1])
    end
    local left = dead:list()
    assert.equal("a", left[1].partition)
    assert.same({ nil, "queue 'ordered': a queue in strict order has no "
                  .. "partitions", "INVALID" },
                { dead:retry(left[1].number, { to = ordered }) })
    assert.same({ 1, 2 }, { dead:count(), ordered:length().ready })
  end)

  it("is no obstacle in a dry run of a replay to another queue", function()
    local other = assert(t.store:queue "other")
    fill("a", 1)
    settle(t:take(1), "dead")
    local counts = t.store:dead "orders":replay { to = other, dry_run = true }
    assert.same({ 1, 0 }, { counts.moved, counts.failed })
  end)

  it("fails by itself in an import to a queue in strict order", function()
    local ordered = assert(t.store:queue("ordered", { ordered = true }))
    assert(t.q:push_many { "x", "y" })
    fill("a", 1)
    local w = transfer.writer()
    assert(respool.export { queue = t.q, writer = w })
    local counts = assert(respool.import {
      to = ordered, reader = transfer.reader(w) })
    assert.same({ 2, 1 }, { counts.pushed, counts.failed })
    assert.matches("^item %d: queue 'ordered': a queue in strict order has no "
      .. "partitions$", counts.errors[1])
    assert.equal(2, ordered:length().ready)
  end)

  it("ends a move to a queue in strict order, before any of its batch",
     function()
    local other = assert(helper.open(helper.location()))
    local ordered = assert(other:queue("ordered", { ordered = true }))
    assert(t.q:push_many { "x", "y" })
    fill("a", 1)
    local ok, message, code = respool.move { queue = t.q, to = ordered }
    assert.same({ nil, "INVALID" }, { ok, code })
    assert.matches("^item %d: queue 'ordered': a queue in strict order has no "
      .. "partitions$", message)
    assert.same({ 3, 0 }, { t.q:length().total, ordered:length().total })
  end)

  it("goes through an export and an import", function()
    fill("a", 2)
    t.q:push "plain"
    local list = {}
    assert(respool.export { queue = t.q, writer = {
      write = function(_, record)
        list[#list + 1] = record
        return 0
      end,
      flush = function() end,
    } })
    local to = assert(t.store:queue "other")
    assert(respool.import { to = to, reader = {
      read = function() return table.remove(list, 1) end,
    } })
    local found = {}
    for _, p in ipairs(to:partitions()) do found[p.key] = p.ready end
    assert.same({ a = 2 }, found)
    assert.equal(3, to:stats().ready)
  end)

  it("is that of a push in a buffer, a transaction and a settle", function()
    local buffered = assert(t.store:queue("orders", {
      buffer = { items = 100 },
    }))
    buffered:push("x", { partition = "b" })
    buffered:push_many({ "y", "z" }, {
      partition = function(p) return p == "z" and "b" or nil end,
    })
    assert(buffered:flush())
    assert(t.store:transaction(function(tx)
      tx:push(t.q, 1, { partition = "t" })
      tx:push_many(t.q, { 2, 3 }, { partition = function() return "t" end })
    end))
    local batch = t:take(10)
    batch:done()
    assert(batch:settle {
      push = { { queue = t.q, payload = 4, partition = "s" } },
    })
    local found = {}
    for i = 1, #batch do
      local key = batch:item(i).partition or "none"
      found[key] = (found[key] or 0) + 1
    end
    assert.same({ b = 2, t = 3, none = 1 }, found)
    assert.equal(1, partition "s".ready)
  end)

  it("is refused by a queue in strict order, and at its push", function()
    t:queue { ordered = true }
    for _, try in ipairs {
      function() return t.q:push(1, { partition = "a" }) end,
      function() return t.q:hold(1, { partition = "a" }) end,
    } do
      assert.error_matches(try, "queue 'orders': a queue in strict order has "
        .. "no partitions")
    end
    local buffered = t.store:queue("orders", { buffer = { items = 10 } })
    assert.error_matches(function()
      return buffered:push(1, { partition = "a" })
    end, "strict order has no partitions")
    assert(buffered:flush())
    t:queue { ordered = false }
    t.q:push(1, { partition = "a" })
    assert.error_matches(function() t:queue { ordered = true } end,
                         "strict order has no partitions")
  end)

  -- A partition that was held and had no items counted as one.
  it("is no obstacle to strict order where it has no items", function()
    fill("a", 1)
    t.q:hold(10, { partition = "a" })
    t.q:hold(10, { partition = "b" })
    assert.error_matches(function() t:queue { ordered = true } end,
                         "strict order has no partitions")
    assert(t.q:remove(1))
    t:queue { ordered = true }
    assert(t.q:push_many { 1, 2, 3 })
    assert.equal(1, #t:take(1))
    assert.equal(0, #(t.q:take() or {}))
  end)
end)

describe("a queue with partitions", function()
  before_each(function() t = queue_of.new {} end)

  it("leaves no trace of a partition without items", function()
    fill("a", 3)
    fill("b", 3)
    settle(t:take(10), "done")
    assert.same({}, t.q:partitions())
  end)

  it("lists them by key, in pages, or by size", function()
    for i, key in ipairs { "a", "b", "c", "d" } do fill(key, i) end
    local function keys(o)
      local list = {}
      for i, p in ipairs(assert(t.q:partitions(o))) do list[i] = p.key end
      return table.concat(list)
    end
    assert.equal("abcd", keys())
    assert.equal("bc", keys { limit = 2, after = "a" })
    assert.equal("dc", keys { order = "size", limit = 2 })
  end)

  it("removes, expires and purges them like others", function()
    local first = t.q:push_many({ 1, 2, 3 }, { partition = "a" })
    assert(t.q:remove(first + 1))
    assert.equal(2, partition "a".ready)
    assert.same({ 1, 3 }, payloads(assert(t.q:peek(10))))
    t.q:push("short", { partition = "b", ttl = 5 })
    t.store:advance(6)
    assert.equal(2, #t:take(10))
    assert.equal(1, t.q:stats().expired)
    fill("c", 5)
    assert.equal(5, t.q:purge())
    assert.is_nil(partition "c")
  end)

  -- The rest of such a batch stayed leased, and its owner settled, by closing
  -- it, what had been removed.
  it("gives back nothing that was removed after its lease ran out", function()
    t:queue { lease = 30 }
    local first = t.q:push_many({ 1, 2 }, { partition = "a" })
    local batch = t:take(2)
    t.store:advance(31)
    assert(t.q:remove(first))
    batch:close()
    assert.same({ 2 }, payloads(t:take(10)))
  end)

  it("tells how many, and since when the oldest item is ready", function()
    assert.equal(0, t.q:stats().partitions)
    local begun = t.store:now()
    fill("a", 1)
    t.store:advance(5)
    fill("b", 2)
    local stats = t.q:stats()
    assert.same({ 2, 3 }, { stats.partitions, stats.ready })
    assert.near(begun, stats.oldest, 0.01)
    local batch = t:take(1)
    assert.near(begun + 5, t.q:stats().oldest, 0.01)
    batch:close()
  end)

  it("tells it of one that was released since its push", function()
    local begun = t.store:now()
    fill("a", 1)
    t.store:advance(5)
    settle(t:take(1), "release")
    assert.near(begun, t.q:stats().oldest, 0.01)
  end)

  it("runs now, kills, moves and edits them like others", function()
    t:queue { partitions = { ordered = true } }
    local other = assert(t.store:queue "other")
    t.q:push_many({ "a1", "a2", "a3" }, { partition = "a", delay = 60 })
    assert(t.q:run_now(1))
    assert(t.q:edit(2, "new"))
    assert(t.q:kill(3))
    local batch = t:take(10)
    assert.same({ "a1" }, payloads(batch))
    settle(batch, "done")
    assert.equal("a", t.q:get(2).partition)
    assert(t.q:move(2, other))
    assert.same({}, t.q:partitions())
    assert.same({ 1 }, { other:partitions()[1].scheduled })
    t.store:advance(61)
    batch = assert(other:take())
    assert.same({ "new" }, payloads(batch))
    assert.equal("a", batch:item(1).partition)
    assert.equal("a", t.q.dead:get(1).partition)
  end)

  -- One take looked at no more than a thousand claims that were due, unless its
  -- batch had room; then at all of them, in one transaction.
  it("comes back in parts where much is due", function()
    local list = {}
    for i = 1, 1500 do list[i] = i end
    assert(t.q:push_many(list, { partition = "a" }))
    local batch = t:take(1500)
    for i = 1, #batch do batch:item(i):retry { delay = 10 } end
    assert(batch:settle())
    t:queue { partitions = { concurrency = 1 } }
    t.store:advance(11)
    assert.equal(1, #t:take(10))
    assert.equal(500, partition "a".scheduled)
  end)

  it("drops the oldest of a full queue", function()
    t:queue { max_items = 3, overflow = "drop_oldest" }
    fill("a", 2)
    fill("b", 2)
    assert.same({ "a2", "b1", "b2" }, payloads(t:take(10)))
  end)

  -- On PostgreSQL what had been delayed was never dropped.
  it("drops one that was delayed and waits for its partition", function()
    t:queue { max_items = 3, overflow = "drop_oldest",
              partitions = { concurrency = 1 } }
    fill("a", 1)
    assert(t.q:push("delayed", { partition = "a", delay = 1 }))
    t:take(1)
    t.store:advance(2)
    assert.equal(0, #t:take(1))
    fill("b", 2)
    assert.equal(1, t.q:stats().dropped)
    assert.same({ "b1", "b2" },
                { t.q:peek(1)[1].payload, t.q:peek(2)[2].payload })
  end)

  it("is dropped with all of them", function()
    fill("a", 3)
    t.q:hold(60, { partition = "b" })
    assert(t.store:drop_queue "orders")
    t:queue()
    assert.same({}, t.q:partitions())
  end)

  it("wakes a taker when a hold is over", function()
    fill("a", 1)
    t.q:hold(10, { partition = "a" })
    local batch = assert(t.q:take { limit = 1, timeout = 20 })
    assert.equal(1, #batch)
  end)

  it("has them after a repair", function()
    t:queue { partitions = { concurrency = 1 } }
    fill("a", 4)
    fill("b", 1)
    settle(t:take(1), "retry", { delay = 60 })
    t:take(1) -- its lease is nobody's then
    local from, to = t.store.path, helper.dir() .. "/repaired"
    local now = t.store:now()
    assert(t.store:close())
    assert(respool.repair(from, to))
    t.store = assert(helper.open(to, { clock = "manual" }))
    t:queue()
    t.store:advance(now - t.store:now() + 61)
    local found = {}
    for _ = 1, 4 do
      local batch = t:take(10)
      for i = 1, #batch do found[#found + 1] = batch:item(i).payload end
      settle(batch, "done")
    end
    table.sort(found)
    assert.same({ "a1", "a2", "a3", "a4", "b1" }, found)
    assert.same({}, t.q:partitions())
  end)

  it("refuses options that it does not know", function()
    for _, value in ipairs {
      { concurrency = -1 }, { breaker = 5 }, { batch = 1.5 }, true,
      { rate = { items = 0 } }, { fair = true },
    } do
      assert.has_error(function()
        t.store:queue("other", { partitions = value })
      end)
    end
  end)
end)
