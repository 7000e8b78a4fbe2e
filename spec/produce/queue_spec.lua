-- SPDX-License-Identifier: MIT
--
-- Queues: what goes in, under which id and policy, and within what bounds.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local respool = require "respool"
local range, payloads, code = helper.range, helper.payloads, helper.code

local huge = math.huge

local t

before_each(function() t = queue_of.new() end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

describe("pushing", function()
  it("range the items of a queue from 1 on", function()
    assert.equal(1, t.q:push "a")
    assert.equal(2, t.q:push "b")
    assert.equal(1, t.store:queue "mails":push "c")
    assert.equal(3, t.q:push("d", { priority = 200, delay = 5 }))
  end)

  it("gives many items consecutive ids, in the order of the list", function()
    t.q:push "first"
    assert.same({ 2, 1000 }, { t.q:push_many(range(1000)) })
    for i = 1, 1000, 111 do assert.equal(i, t.q:get(i + 1).payload) end
  end)

  it("puts many items into one commit", function()
    local before = t.store:stats().last_txn
    t.q:push_many(range(5000))
    if helper.engine == "lmdb" then -- a server counts those of others too
      assert.equal(before + 1, t.store:stats().last_txn)
    end
  end)

  it("stores all of them or none", function()
    t.q = t.store:queue("orders", { max_items = 3 })
    t.q:push_many { 1, 2 }
    assert.equal("FULL", code(t.q:push_many { 3, 4 }))
    assert.same({ 1, 2 }, payloads(t.q:peek(9)))
    assert(t.q:push(3))
  end)

  it("stores none when one is too large", function()
    t.store = helper.store { max_item_bytes = 1000 }
    t.q = t.store:queue "orders"
    assert.equal("TOO_LARGE", code(t.q:push_many { 1, ("x"):rep(2000), 3 }))
    assert.equal(0, t.q:length().total)
  end)

  it("is there when another opens the store (guarantee 1)", function()
    t.q:push_many { "a", "b" }
    t.q:push("c", { delay = 3600 }) -- as the clock of the second is later
    t:reopen()
    assert.same({ "a", "b" }, payloads(t.q:peek(9)))
    assert.equal("c", t.q:get(3).payload)
  end)
end)

describe("ids", function()
  it("are not used again once their items are gone", function()
    t.q:push_many { 1, 2, 3 }
    t:done(3)
    assert.equal(4, t.q:push(4))
    assert(t.q:remove(4))
    assert.equal(5, t.q:push(5))
    t.q:purge()
    assert.equal(6, t.q:push(6))
  end)

  it("rise further when the store is opened again", function()
    t.q:push_many { 1, 2, 3 }
    t:done(3)
    t:reopen()
    assert.equal(4, t.q:push(4))
  end)

  it("are new ones for items that come back from a DLQ", function()
    t.q:push "a"
    local batch = t:take()
    batch:dead()
    batch:settle()
    assert(t.q.dead:retry(1))
    assert.equal("NOT_FOUND", code(t.q:get(1)))
    assert.equal("a", t.q:get(2).payload)
  end)
end)

describe("headers", function()
  it("stay with their item through failure, death and replay", function()
    local headers = { trace = "00-4bf9", hops = { 1, 2 } }
    t.q:push("a", { headers = headers })
    local batch = t:take()
    batch:retry { delay = 0 }
    batch:settle()
    batch = t:take()
    assert.same(headers, batch:item(1).headers)
    batch:dead()
    batch:settle()
    assert.same(headers, t.q.dead:oldest().headers)
    t.q.dead:replay()
    assert.same(headers, t.q:peek()[1].headers)
  end)

  it("are given to each of many", function()
    t.q:push_many({ 1, 2 }, { headers = { from = "web" } })
    t.q:push(3)
    assert.same({ from = "web" }, t.q:get(2).headers)
    assert.is_nil(t.q:get(3).headers)
  end)
end)

describe("many queues in one store", function()
  it("keep their items apart", function()
    for i = 1, 40 do t.store:queue("q" .. i):push_many { i, -i } end
    for i = 1, 40 do
      assert.same({ i, -i }, payloads(t.store:queue("q" .. i):peek(9)))
    end
  end)

  it("are listed in the order of their bytes", function()
    for _, name in ipairs { "b", "a\255", "B", "a", "é" } do
      t.store:queue(name)
    end
    assert.same({ "B", "a", "a\255", "b", "orders", "é" }, t.store:queues())
  end)

  it("are dropped with what is in them, not with their DLQ", function()
    t.q:push_many { 1, 2, 3, 4 }
    local batch = t:take(2)
    batch:item(1):dead()
    batch:item(2):retry { delay = 9 }
    batch:settle()
    t.store:queue "mails":push "stays"
    assert(t.store:drop_queue "orders")
    assert.same({ "mails" }, t.store:queues())
    assert.equal(1, t.store:dead "orders":count())
    assert.equal("stays", t.store:queue "mails":peek()[1].payload)
  end)

  it("are not dropped while items are leased", function()
    t.q:push_many { 1, 2 }
    local batch = t:take()
    assert.equal("BUSY", code(t.store:drop_queue "orders"))
    batch:done()
    assert.is_true(batch:settle())
    assert.is_true(t.store:drop_queue "orders")
  end)

  -- It removed the items that were not leased, in commits of their own, and
  -- answered BUSY for the others then.
  it("are unchanged when they could not be dropped", function()
    t.q:push_many { 1, 2, 3, 4 }
    t:take(1)
    local before = t.q:stats()
    local _, message = t.store:drop_queue "orders"
    assert.equal("queue 'orders' has 1 leased item", message)
    local after = t.q:stats()
    before.bytes, after.bytes = nil, nil -- as stored: the journal's or LMDB's
    assert.same(before, after)
    assert.equal(2, t:take(1):item(1).payload)
  end)

  it("are dropped when the leases of their items have run out", function()
    t.q:push_many { 1, 2 }
    t:take(1)
    t.store:advance(30)
    assert.is_true(t.store:drop_queue "orders")
  end)

  it("begin anew under the name of a dropped one", function()
    t.store:queue("orders", { lease = 7 }):push "old"
    t.store:drop_queue "orders"
    t.q = t.store:queue "orders"
    assert.equal(30, t.q:config().lease)
    assert.equal(0, t.q:length().total)
    assert.equal("NOT_FOUND", code(t.q:get(1)))
  end)

  it("answer NOT_FOUND by handles on a dropped one", function()
    t.store:drop_queue "orders"
    assert.equal("NOT_FOUND", code(t.q:push(1)))
    assert.equal("NOT_FOUND", code(t.q:take()))
  end)
end)

describe("a policy", function()
  it("is honoured by handles that gave none", function()
    t.store:queue("orders", {
      lease = 7, max_attempts = 1, dead_letter = "morgue",
    })
    t.q = t.store:queue "orders"
    t.q:push "a"
    local batch = t:take()
    assert.near(t.store:now() + 7, t.q:get(1).visible_at, 0.01)
    batch:retry()
    batch:settle()
    assert.equal(1, t.store:dead "morgue":count())
  end)

  it("is honoured after the store was opened again", function()
    t.store:queue("orders", { lease = 7 })
    t:reopen()
    t.q:push "a"
    t:take()
    assert.near(t.store:now() + 7, t.q:get(1).visible_at, 0.01)
  end)

  it("changes for handles that are open already", function()
    local other = assert(helper.open(t.store.path, { clock = "manual" }))
    other:queue("orders", { max_items = 1 })
    t.q:push "a"
    assert.equal("FULL", code(t.q:push "b"))
    other:queue("orders", { max_items = huge })
    assert(t.q:push "b")
  end)

  it("governs items that were pushed before it", function()
    t.q:push "a"
    t.store:queue("orders", { max_attempts = 1 })
    local batch = t:take()
    batch:retry()
    batch:settle()
    assert.equal("exhausted", t.q.dead:oldest().reason)
  end)
end)

describe("a paused queue", function()
  it("takes pushes and hands nothing out, by any handle", function()
    t.q:pause()
    t.q:push "a"
    t.q:push("b", { delay = 1 })
    local other = assert(helper.open(t.store.path, { clock = "manual" }))
    assert.equal(0, #other:queue "orders":take())
    t.store:advance(5)
    assert.equal(0, #t.q:take { timeout = 5 })
    assert.equal(2, t.q:length().ready)
  end)

  it("lets what is leased be settled", function()
    t.q:push_many { 1, 2 }
    local batch = t:take(2)
    t.q:pause()
    batch:item(1):done()
    batch:item(2):release()
    local ok, more = batch:settle { take = { limit = 9 } }
    assert.is_true(ok)
    assert.is_true(more == nil or #more == 0)
    assert.equal(0, #t:take())
  end)

  it("stays paused when the store is opened again", function()
    t.q:push "a"
    t.q:pause()
    t:reopen()
    assert.is_true(t.q:stats().paused)
    assert.equal(0, #t:take())
    t.q:resume()
    assert.is_false(t.q:stats().paused)
    assert.equal(1, #t:take())
  end)
end)

-- Each open took the writer lock and, in a store that others write to, waited
-- for it.
describe("a queue that is opened again", function()
  local function commits()
    return t.store:stats().last_txn
  end

  it("is only looked at when its policy is what the options ask for",
     function()
    local options = {
      lease = 5, max_attempts = math.huge, ttl = 60, max_items = 10,
      retry = respool.backoff.exponential { initial = 2, max = 60 },
      weights = { [9] = 5, [3] = 2, [0] = 1 }, dead_letter = "morgue",
      on_exhausted = { cooldown = 5 }, keep_done = "1MiB",
    }
    assert(t.store:queue("mails", options))
    local before = commits()
    assert(t.store:queue("mails", options))
    assert(t.store:queue("mails", { ttl = 60 }))
    assert(t.store:queue "mails")
    assert.equal(before, commits())
    local weights = {}
    for _,
      priority in ipairs { 0, 3, 9 } do weights[priority] =
        options.weights[priority] end
    assert(t.store:queue("mails", { weights = weights }))
    assert.equal(before, commits())
  end)

  it("gets what differs, and keeps the rest", function()
    assert(t.store:queue("mails", {
      lease = 5, ttl = 60, weights = { [1] = 2 },
    }))
    local before = commits()
    for _, change in ipairs { { lease = 6 }, { ttl = math.huge },
      { weights = { [1] = 3 } }, { dead_letter = "morgue" },
      { retry = respool.backoff.list { 1, 2 } },
      { retry = respool.backoff.list { 1, 3 } } } do
      assert(t.store:queue("mails", change))
      before = before + 1
      assert.equal(before, commits())
    end
    local config = t.store:queue("mails"):config()
    assert.same({ 6, math.huge, "morgue", { [1] = 3 }, { 1, 3 } },
      { config.lease, config.ttl, config.dead_letter, config.weights,
        config.retry.list })
  end)

  -- A policy named its DLQ even where nobody had chosen one, so that a queue
  -- with the policy of another sent its dead letters to that one's DLQ.
  it("with the policy of another has a DLQ of its own", function()
    local mails = assert(t.store:queue("mails", { lease = 5 }))
    local orders = assert(t.store:queue("orders", mails:config()))
    assert.same({ 5, "orders" }, { orders:config().lease, orders.dead.dlq })
    mails = assert(t.store:queue("mails", { dead_letter = "morgue" }))
    orders = assert(t.store:queue("orders", mails:config()))
    assert.equal("morgue", orders.dead.dlq)
    orders = assert(t.store:queue("orders", { dead_letter = false }))
    assert.same({ false, "orders" },
                { orders:config().dead_letter, orders.dead.dlq })
  end)

  it("waits for no other process that writes", function()
    t.store = assert(helper.open(helper.location()))
    assert(t.store:queue("mails", { lease = 5 }))
    local go = helper.dir() .. "/go"
    local lock = assert(io.popen(("exec %s/spec/writer %s %s"):format(
      os.getenv "RESPOOL_BUILD", t.store.path, go)))
    assert.equal("held", lock:read())
    local other = helper.spawn([[
      local store = assert(require "respool".open(arg[1]))
      local q = assert(store:queue("mails", { lease = 5 }))
      print(q:config().lease)
    ]], t.store.path)
    assert.equal(5, assert(t.store:queue "mails"):config().lease)
    other:expect "5"
    assert.equal(0, other:wait())
    helper.write(go, "")
    lock:close()
  end)
end)

describe("a queue with bounds", function()
  it("counts items by state, but no dead letters", function()
    t.q = t.store:queue("orders", { max_items = 3 })
    t.q:push_many { 1, 2 }
    t.q:push(3, { delay = 60 })
    local batch = t:take()
    assert.equal("FULL", code(t.q:push(4)))
    batch:dead()
    batch:settle()
    assert(t.q:push(4))
    assert.equal("FULL", code(t.q:push(5)))
  end)

  it("of no items takes none", function()
    t.q = t.store:queue("orders", { max_items = 0 })
    assert.equal("FULL", code(t.q:push(1)))
  end)

  it("of bytes takes pushes again when it is drained", function()
    t.q = t.store:queue("orders", { max_queue_bytes = "64KiB" })
    local n = 0
    while n < 100 and t.q:push(("x"):rep(1000)) do n = n + 1 end
    assert.equal("FULL", code(t.q:push(("x"):rep(1000))))
    assert.is_true(n >= 50)
    assert.is_true(t.q:stats().bytes <= 65536)
    t:done(n)
    assert.equal(0, t.q:stats().bytes)
    assert(t.q:push_many { ("x"):rep(20000), ("x"):rep(20000) })
  end)

  it("refuses a push that is larger than all of it", function()
    t.q = t.store:queue("orders", { max_queue_bytes = 5000 })
    assert.equal("TOO_LARGE", code(t.q:push(("x"):rep(6000))))
    assert.equal(0, t.q:length().total)
  end)
end)

describe("a queue in memory", function()
  it("behaves like any other", function()
    t.store = assert(helper.open(":memory:", { clock = "manual" }))
    t.q = t.store:queue("orders", { retry = respool.backoff.constant {
      delay = 5 } })
    t.q:push_many { "a", "b" }
    local batch = t:take(2)
    batch:item(1):retry()
    batch:item(2):done()
    batch:settle()
    assert.equal("a", t.q:take { timeout = 9 }:item(1).payload)
  end)
end)
