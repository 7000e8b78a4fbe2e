-- SPDX-License-Identifier: MIT
--
-- What calls return: on success what was asked for and nothing behind it, on
-- failure nil, a message and a code.

local helper = require "spec.helper"
local respool = require "respool"

local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue("orders", { keep_done = 60 }))
end)

-- Asserts that a call has one value, and returns it.
local function one(...)
  assert.equal(1, select("#", ...))
  local value = ...
  assert.is_not_nil(value)
  return value
end

local function none(...)
  assert.equal(0, select("#", ...))
end

-- Asserts that a call failed with this code.
local function fails(code, ...)
  assert.equal(3, select("#", ...))
  local value, message, got = ...
  assert.is_nil(value)
  assert.equal("string", type(message))
  assert.equal(code, got)
end

local function take(n)
  return one(q:take { limit = n })
end

-- Leaves one dead letter.
local function die()
  one(q:push "dead")
  local batch = take()
  batch:item(1):dead()
  one(batch:settle())
end

describe("one value, and nothing behind it, is returned by", function()
  it("a store that is opened, and the queues and DLQs of it", function()
    one(respool.open(":memory:", { log = false }))
    one(store:queue "mails")
    one(store:queues())
    one(store:dead_letter_queues())
    one(store:dead "orders")
    one(store:drop_queue "mails")
  end)

  it("looking at a store", function()
    one(store:stats())
    one(store:metrics())
    one(store:metrics { format = "openmetrics" })
    one(store:health())
    one(store:check())
    one(store:now())
    one(store:maintain())
    one(store:maintain { seconds = "1s" })
    one(store:advance(1))
    one(store:flush())
    one(tostring(store))
  end)

  it("closing a store", function()
    one(store:close())
    one(store:close())
  end)

  it("pushes", function()
    one(q:push "a")
    one(q:push("b", { key = "b", priority = 3, delay = "1s" }))
    local buffered = one(store:queue("clicks", { buffer = {} }))
    one(buffered:push "a")
    one(buffered:push("a", { priority = 1 }))
    one(buffered:flush())
  end)

  it("takes and settles", function()
    for i = 1, 6 do one(q:push(i)) end
    local batch = take(2)
    one(#batch)
    one(batch:item(1))
    one(batch:extend())
    one(batch:extend "5s")
    one(batch:keep())
    one(batch:item(1):done())
    one(batch:done())
    one(batch:settle())
    one(batch:close())
    batch = take(4)
    one(batch:retry())
    one(batch:item(1):retry { delay = "1m" })
    one(batch:item(2):dead())
    one(batch:item(3):snooze "1m")
    one(batch:item(4):release())
    one(batch:item(4):stopping())
    one(batch:settle())
  end)

  it("work", function()
    one(q:push "a")
    one(q:work(function() end, { stop_when_empty = true }))
    one(q:work_batches(function() end, { stop_when_empty = true }))
    none(q:stop())
  end)

  it("looking at a queue", function()
    local id = one(q:push "a")
    one(q:peek())
    one(q:peek(5))
    one(q:get(id))
    one(q:each())
    one(q:stats())
    one(q:length())
    one(q:config())
    one(q:flush())
    one(tostring(q))
  end)

  it("changing a queue", function()
    one(q:pause())
    one(q:resume())
    one(q:remove(one(q:push "a")))
    one(q:purge())
  end)

  it("dead letters", function()
    for _ = 1, 4 do die() end
    local dead = q.dead
    one(dead:in_dlq "others")
    one(dead:count())
    one(dead:groups())
    one(dead:list())
    one(dead:each())
    one(dead:get(1))
    one(dead:oldest())
    one(dead:retry(1))
    one(dead:remove(2))
    one(dead:replay { limit = 1, name = "again" })
    one(dead:purge { older_than = "0s" })
    local replay = one(dead:replay_every { interval = "1h" })
    one(replay:stop())
    one(store:replays())
    one(store:replay "again")
    one(store:remove_replay "again")
  end)

  it("the history", function()
    one(q:push "a")
    local batch = take()
    batch:done()
    one(batch:settle())
    one(q.history:count())
    one(q.history:list())
    one(q.history:each())
    one(q.history:replay())
  end)

  it("transactions", function()
    one(store:transaction(function(tx) one(tx:push(q, "a")) end))
    one(store:transaction(function() return 5 end))
    local tx = one(store:begin())
    one(tx:push_many(q, { 1, 2 }))
    one(tx:commit())
    one(one(store:begin()):rollback())
  end)

  it("exports and imports", function()
    one(q:push "a")
    local records
    one(respool.export { queue = q, writer = function(batch)
      records = batch
    end })
    one(respool.import { to = q, reader = function()
      local batch = records
      records = nil
      return batch
    end })
    local dir = helper.dir()
    one(respool.export {
      queue = q, writer = one(respool.file_writer(dir, { store = store })),
    })
    one(respool.file_reader { dir })
  end)

  it("compaction and repair", function()
    one(q:push "a")
    local path = store.path
    one(respool.compact(path, { to = helper.location() }))
    one(store:close())
    one(respool.compact(path))
    one(respool.repair(path, helper.location()))
  end)
end)

describe("a second value is documented of", function()
  it("a push that found its key held, the first of many, a settle that takes",
     function()
    q:push("a", { key = "a" })
    assert.same({ 1, "exists" },
                { q:push("b", { key = "a", on_conflict = "ignore" }) })
    assert.same({ 2, 2 }, { q:push_many { "b", "c" } })
    local batch = q:take()
    batch:done()
    local ok, more = batch:settle { take = { limit = 1 } }
    assert.is_true(ok)
    assert.equal(1, #more)
  end)
end)

describe("nil, a message and a code are returned by", function()
  it("a push without room, and one whose key is held", function()
    local small = assert(store:queue("small", { max_items = 1 }))
    one(small:push("a", { key = "k" }))
    fails("FULL", small:push "b")
    fails("FULL", small:push_many { "b" })
    fails("EXISTS", small:push("b", { key = "k" }))
    fails("FULL", store:transaction(function(tx) tx:push(small, "b") end))
  end)

  it("what is not there", function()
    fails("NOT_FOUND", store:queue("none", { create = false }))
    fails("NOT_FOUND", store:drop_queue "none")
    fails("NOT_FOUND", store:replay "none")
    fails("NOT_FOUND", store:remove_replay "none")
    fails("NOT_FOUND", q:get(7))
    fails("NOT_FOUND", q:remove(7))
    fails("NOT_FOUND", q.dead:get(7))
    fails("NOT_FOUND", q.dead:retry(7))
    fails("NOT_FOUND", q.dead:remove(7))
    fails("NOT_FOUND", respool.open(helper.location(), { create = false }))
  end)

  it("a queue that is gone", function()
    local other = assert(store:queue "other")
    one(store:drop_queue "other")
    fails("NOT_FOUND", other:push "a")
    fails("NOT_FOUND", other:stats())
    fails("NOT_FOUND", other:config())
    fails("NOT_FOUND", other:length())
    fails("NOT_FOUND", other:purge())
    fails("NOT_FOUND", other:pause())
  end)
end)

describe("a call with a dot instead of a colon", function()
  it("is told so", function()
    for name, call in pairs {
      ["queue.push"] = function() q.push "x" end,
      ["queue.take"] = function() q.take { limit = 1 } end,
      ["queue.work"] = function() q.work(print) end,
      ["store.queue"] = function() store.queue "x" end,
      ["dead.replay"] = function() q.dead.replay() end,
      ["history.list"] = function() q.history.list() end,
    } do
      assert.error_matches(call, name .. ": call it with a colon", 1, true)
    end
  end)
end)
