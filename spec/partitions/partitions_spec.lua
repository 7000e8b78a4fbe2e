-- SPDX-License-Identifier: MIT
--
-- Partitions: fair turns, concurrency, strict order, rates and holds by a key
-- of the items (guarantees 4, 9, 10).

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local respool = require "respool"
local transfer = require "spec.helper.transfer"
local payloads = helper.payloads

local it = helper.checked(it)

local t

-- Pushes `n` items of a partition, whose payloads begin with its key.
local function fill(key, n, options)
  local list = {}
  for i = 1, n do list[i] = key .. i end
  local o = { partition = key }
  for name, value in pairs(options or {}) do o[name] = value end
  assert(t.q:push_many(list, o))
end

local function partition(key)
  for _, p in ipairs(assert(t.q:partitions())) do
    if p.key == key then return p end
  end
end

local function settle(batch, outcome, ...)
  for i = 1, #batch do
    local item = batch:item(i)
    item[outcome](item, ...)
  end
  assert(batch:settle())
end

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
