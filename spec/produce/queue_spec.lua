-- SPDX-License-Identifier: MIT
--
-- Queues: what goes in, under which id and policy, and within what bounds.

local helper = require "spec.helper"
local respool = require "respool"
local range, payloads, code = helper.range, helper.payloads, helper.code

local huge = math.huge

local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue "orders")
end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

local function reopen()
  local location = store.path
  assert(store:close())
  store = assert(helper.open(location, { clock = "manual" }))
  q = assert(store:queue "orders")
end

local function take(n)
  return assert(q:take { limit = n or 1 })
end

local function done(n)
  local batch = take(n)
  batch:done()
  assert(batch:settle())
end

describe("pushing (A1, A4)", function()
  it("range the items of a queue from 1 on", function()
    assert.equal(1, q:push "a")
    assert.equal(2, q:push "b")
    assert.equal(1, store:queue "mails":push "c")
    assert.equal(3, q:push("d", { priority = 200, delay = 5 }))
  end)

  it("gives many items consecutive ids, in the order of the list", function()
    q:push "first"
    assert.same({ 2, 1000 }, { q:push_many(range(1000)) })
    for i = 1, 1000, 111 do assert.equal(i, q:get(i + 1).payload) end
  end)

  it("puts many items into one commit", function()
    local before = store:stats().last_txn
    q:push_many(range(5000))
    assert.equal(before + 1, store:stats().last_txn)
  end)

  it("stores all of them or none", function()
    q = store:queue("orders", { max_items = 3 })
    q:push_many { 1, 2 }
    assert.equal("FULL", code(q:push_many { 3, 4 }))
    assert.same({ 1, 2 }, payloads(q:peek(9)))
    assert(q:push(3))
  end)

  it("stores none when one is too large", function()
    store = helper.store { max_item_bytes = 1000 }
    q = store:queue "orders"
    assert.equal("TOO_LARGE", code(q:push_many { 1, ("x"):rep(2000), 3 }))
    assert.equal(0, q:length().total)
  end)

  it("is there when another opens the store (guarantee 1)", function()
    q:push_many { "a", "b" }
    q:push("c", { delay = 5 })
    reopen()
    assert.same({ "a", "b" }, payloads(q:peek(9)))
    assert.equal("c", q:get(3).payload)
  end)
end)

describe("ids", function()
  it("are not used again once their items are gone", function()
    q:push_many { 1, 2, 3 }
    done(3)
    assert.equal(4, q:push(4))
    assert(q:remove(4))
    assert.equal(5, q:push(5))
    q:purge()
    assert.equal(6, q:push(6))
  end)

  it("rise further when the store is opened again", function()
    q:push_many { 1, 2, 3 }
    done(3)
    reopen()
    assert.equal(4, q:push(4))
  end)

  it("are new ones for items that come back from a DLQ", function()
    q:push "a"
    local batch = take()
    batch:dead()
    batch:settle()
    assert(q.dead:retry(1))
    assert.equal("NOT_FOUND", code(q:get(1)))
    assert.equal("a", q:get(2).payload)
  end)
end)

describe("headers", function()
  it("stay with their item through failure, death and replay", function()
    local headers = { trace = "00-4bf9", hops = { 1, 2 } }
    q:push("a", { headers = headers })
    local batch = take()
    batch:retry { delay = 0 }
    batch:settle()
    batch = take()
    assert.same(headers, batch:item(1).headers)
    batch:dead()
    batch:settle()
    assert.same(headers, q.dead:oldest().headers)
    q.dead:replay()
    assert.same(headers, q:peek()[1].headers)
  end)

  it("are given to each of many", function()
    q:push_many({ 1, 2 }, { headers = { from = "web" } })
    q:push(3)
    assert.same({ from = "web" }, q:get(2).headers)
    assert.is_nil(q:get(3).headers)
  end)
end)

describe("many queues in one store", function()
  it("keep their items apart", function()
    for i = 1, 40 do store:queue("q" .. i):push_many { i, -i } end
    for i = 1, 40 do
      assert.same({ i, -i }, payloads(store:queue("q" .. i):peek(9)))
    end
  end)

  it("are listed in the order of their bytes", function()
    for _, name in ipairs { "b", "a\255", "B", "a", "é" } do
      store:queue(name)
    end
    assert.same({ "B", "a", "a\255", "b", "orders", "é" }, store:queues())
  end)

  it("are dropped with what is in them, not with their DLQ", function()
    q:push_many { 1, 2, 3, 4 }
    local batch = take(2)
    batch:item(1):dead()
    batch:item(2):retry { delay = 9 }
    batch:settle()
    store:queue "mails":push "stays"
    assert(store:drop_queue "orders")
    assert.same({ "mails" }, store:queues())
    assert.equal(1, store:dead "orders":count())
    assert.equal("stays", store:queue "mails":peek()[1].payload)
  end)

  it("are not dropped while items are leased", function()
    q:push_many { 1, 2 }
    local batch = take()
    assert.equal("BUSY", code(store:drop_queue "orders"))
    batch:done()
    assert.is_true(batch:settle())
    assert.is_true(store:drop_queue "orders")
  end)

  -- It removed the items that were not leased, in commits of their own, and
  -- answered BUSY for the others then.
  it("are unchanged when they could not be dropped", function()
    q:push_many { 1, 2, 3, 4 }
    take(1)
    local before = q:stats()
    local _, message = store:drop_queue "orders"
    assert.equal('queue "orders" has 1 leased item', message)
    assert.same(before, q:stats())
    assert.equal(2, take(1):item(1).payload)
  end)

  it("are dropped when the leases of their items have run out", function()
    q:push_many { 1, 2 }
    take(1)
    store:advance(30)
    assert.is_true(store:drop_queue "orders")
  end)

  it("begin anew under the name of a dropped one", function()
    store:queue("orders", { lease = 7 }):push "old"
    store:drop_queue "orders"
    q = store:queue "orders"
    assert.equal(30, q:config().lease)
    assert.equal(0, q:length().total)
    assert.equal("NOT_FOUND", code(q:get(1)))
  end)

  it("answer NOT_FOUND by handles on a dropped one", function()
    store:drop_queue "orders"
    assert.equal("NOT_FOUND", code(q:push(1)))
    assert.equal("NOT_FOUND", code(q:take()))
  end)
end)

describe("a policy", function()
  it("is honoured by handles that gave none", function()
    store:queue("orders", {
      lease = 7, max_attempts = 1, dead_letter = "morgue",
    })
    q = store:queue "orders"
    q:push "a"
    local batch = take()
    assert.near(store:now() + 7, q:get(1).visible_at, 0.01)
    batch:retry()
    batch:settle()
    assert.equal(1, store:dead "morgue":count())
  end)

  it("is honoured after the store was opened again", function()
    store:queue("orders", { lease = 7 })
    reopen()
    q:push "a"
    take()
    assert.near(store:now() + 7, q:get(1).visible_at, 0.01)
  end)

  it("changes for handles that are open already", function()
    local other = assert(helper.open(store.path, { clock = "manual" }))
    other:queue("orders", { max_items = 1 })
    q:push "a"
    assert.equal("FULL", code(q:push "b"))
    other:queue("orders", { max_items = huge })
    assert(q:push "b")
  end)

  it("governs items that were pushed before it", function()
    q:push "a"
    store:queue("orders", { max_attempts = 1 })
    local batch = take()
    batch:retry()
    batch:settle()
    assert.equal("exhausted", q.dead:oldest().reason)
  end)
end)

describe("a paused queue", function()
  it("takes pushes and hands nothing out, by any handle", function()
    q:pause()
    q:push "a"
    q:push("b", { delay = 1 })
    local other = assert(helper.open(store.path, { clock = "manual" }))
    assert.equal(0, #other:queue "orders":take())
    store:advance(5)
    assert.equal(0, #q:take { timeout = 5 })
    assert.equal(2, q:length().ready)
  end)

  it("lets what is leased be settled", function()
    q:push_many { 1, 2 }
    local batch = take(2)
    q:pause()
    batch:item(1):done()
    batch:item(2):release()
    local ok, more = batch:settle { take = { limit = 9 } }
    assert.is_true(ok)
    assert.is_true(more == nil or #more == 0)
    assert.equal(0, #take())
  end)

  it("stays paused when the store is opened again", function()
    q:push "a"
    q:pause()
    reopen()
    assert.is_true(q:stats().paused)
    assert.equal(0, #take())
    q:resume()
    assert.is_false(q:stats().paused)
    assert.equal(1, #take())
  end)
end)

-- Each open took the writer lock and, in a store that others write to, waited
-- for it.
describe("a queue that is opened again", function()
  local function commits()
    return store:stats().last_txn
  end

  it("is only looked at when its policy is what the options ask for",
     function()
    local options = {
      lease = 5, max_attempts = math.huge, ttl = 60, max_items = 10,
      retry = respool.backoff.exponential { initial = 2, max = 60 },
      weights = { [9] = 5, [3] = 2, [0] = 1 }, dead_letter = "morgue",
      on_exhausted = { cooldown = 5 }, keep_done = "1MiB",
    }
    assert(store:queue("mails", options))
    local before = commits()
    assert(store:queue("mails", options))
    assert(store:queue("mails", { ttl = 60 }))
    assert(store:queue "mails")
    assert.equal(before, commits())
    local weights = {}
    for _,
      priority in ipairs { 0, 3, 9 } do weights[priority] =
        options.weights[priority] end
    assert(store:queue("mails", { weights = weights }))
    assert.equal(before, commits())
  end)

  it("gets what differs, and keeps the rest", function()
    assert(store:queue("mails", { lease = 5, ttl = 60, weights = { [1] = 2 } }))
    local before = commits()
    for _, change in ipairs { { lease = 6 }, { ttl = math.huge },
      { weights = { [1] = 3 } }, { dead_letter = "morgue" },
      { retry = respool.backoff.list { 1, 2 } },
      { retry = respool.backoff.list { 1, 3 } } } do
      assert(store:queue("mails", change))
      before = before + 1
      assert.equal(before, commits())
    end
    local config = store:queue("mails"):config()
    assert.same({ 6, math.huge, "morgue", { [1] = 3 }, { 1, 3 } },
      { config.lease, config.ttl, config.dead_letter, config.weights,
        config.retry.list })
  end)

  it("waits for no other process that writes", function()
    store = assert(helper.open(helper.location()))
    assert(store:queue("mails", { lease = 5 }))
    local go = helper.dir() .. "/go"
    local lock = assert(io.popen(("exec %s/spec/writer %s %s"):format(
      os.getenv "RESPOOL_BUILD", store.path, go)))
    assert.equal("held", lock:read())
    local other = helper.spawn([[
      local store = assert(require "respool".open(arg[1]))
      local q = assert(store:queue("mails", { lease = 5 }))
      print(q:config().lease)
    ]], store.path)
    assert.equal(5, assert(store:queue "mails"):config().lease)
    other:expect "5"
    assert.equal(0, other:wait())
    helper.write(go, "")
    lock:close()
  end)
end)

describe("a queue with bounds", function()
  it("counts items by state, but no dead letters", function()
    q = store:queue("orders", { max_items = 3 })
    q:push_many { 1, 2 }
    q:push(3, { delay = 60 })
    local batch = take()
    assert.equal("FULL", code(q:push(4)))
    batch:dead()
    batch:settle()
    assert(q:push(4))
    assert.equal("FULL", code(q:push(5)))
  end)

  it("of no items takes none", function()
    q = store:queue("orders", { max_items = 0 })
    assert.equal("FULL", code(q:push(1)))
  end)

  it("of bytes takes pushes again when it is drained", function()
    q = store:queue("orders", { max_queue_bytes = "64KiB" })
    local n = 0
    while n < 100 and q:push(("x"):rep(1000)) do n = n + 1 end
    assert.equal("FULL", code(q:push(("x"):rep(1000))))
    assert.is_true(n >= 50)
    assert.is_true(q:stats().bytes <= 65536)
    done(n)
    assert.equal(0, q:stats().bytes)
    assert(q:push_many { ("x"):rep(20000), ("x"):rep(20000) })
  end)

  it("refuses a push that is larger than all of it", function()
    q = store:queue("orders", { max_queue_bytes = 5000 })
    assert.equal("TOO_LARGE", code(q:push(("x"):rep(6000))))
    assert.equal(0, q:length().total)
  end)
end)

describe("a queue in memory", function()
  it("behaves like any other", function()
    store = assert(helper.open(":memory:", { clock = "manual" }))
    q = store:queue("orders", { retry = respool.backoff.constant {
      delay = 5 } })
    q:push_many { "a", "b" }
    local batch = take(2)
    batch:item(1):retry()
    batch:item(2):done()
    batch:settle()
    assert.equal("a", q:take { timeout = 9 }:item(1).payload)
  end)
end)
