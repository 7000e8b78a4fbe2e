-- SPDX-License-Identifier: MIT
--
-- What stays with an item wherever it goes: its origin, and the name of the
-- codec that its payload was encoded with.

local helper = require "spec.helper"
local respool = require "respool"

local store, q, origin

before_each(function()
  store = helper.store()
  q = assert(store:queue "orders")
  assert(q:push "before")
  origin = { queue = "orders", id = 2, pushed_at = store:now() }
  assert(q:push "tea")
  assert(q:remove(1))
  store:advance(5)
end)

local it = helper.checked(it)

-- Takes the one item and gives it an outcome; returns its origin.
local function settle(queue, outcome, ...)
  local batch = assert(queue:take())
  local item = batch:item(1)
  local found = item.origin
  item[outcome](item, ...)
  assert(batch:settle())
  return found
end

describe("the origin of an item", function()
  it("is where and when it was pushed", function()
    assert.same(origin, q:get(2).origin)
    assert.same(origin, q:peek()[1].origin)
    assert.same(origin, settle(q, "done"))
  end)

  it("stays through a retry", function()
    settle(q, "retry", { delay = 1 })
    store:advance(1)
    assert.same(origin, settle(q, "done"))
  end)

  it("stays with its dead letter, and through replays", function()
    local other = assert(store:queue "other")
    settle(q, "dead")
    assert.same(origin, q.dead:oldest().origin)
    assert(q.dead:replay { to = other })
    assert.same(origin, settle(other, "dead"))
    assert.same(origin, other.dead:oldest().origin)
    assert(other.dead:replay { to = q, transform = function() return "x" end })
    assert.same(origin, settle(q, "done"))
  end)

  it("is known of dead letters that are listed without their bodies",
     function()
    for _, payload in ipairs { "small", ("x"):rep(50000) } do
      store = helper.store()
      q = assert(store:queue("orders", { codec = "raw" }))
      assert(q:push(payload, { key = "k" }))
      local first = q:peek()[1]
      settle(q, "dead")
      assert(q.dead:replay())
      settle(q, "dead")
      local list = store.handle:dead_list("orders", { no_body = true })
      local dead_letter = list[1]
      assert.same({ "orders", first.id, first.pushed_at, "raw", "k", 1 }, {
        dead_letter.origin_queue, dead_letter.origin_id,
        dead_letter.origin_pushed_at, dead_letter.codec, dead_letter.key,
        dead_letter.replays,
      })
      assert.equal("", dead_letter.bytes)
    end
  end)

  it("stays with finished items, whose copies are new ones", function()
    q = assert(store:queue("orders", { keep_done = 60 }))
    settle(q, "done")
    assert.same(origin, q.history:list()[1].origin)
    assert.equal(1, q.history:replay().pushed)
    assert.same({ queue = "orders", id = 3, pushed_at = store:now() },
                q:peek()[1].origin)
  end)

  it("stays with large items", function()
    local now = store:now()
    local id = q:push(("x"):rep(50000))
    assert(q:remove(2))
    settle(q, "dead")
    assert(q.dead:replay())
    assert.same({ queue = "orders", id = id, pushed_at = now },
                q:peek()[1].origin)
  end)

  for _, form in ipairs { "json", "cbor" } do
    it("goes through " .. form .. " files into another store", function()
      settle(q, "dead")
      assert(q.dead:replay())
      settle(q, "dead")
      local dir = helper.dir()
      local writer = respool.file_writer(dir, { store = store, form = form })
      assert(respool.export { dlq = q.dead, writer = writer })
      local there = assert(helper.store():queue "there")
      assert.equal(1, respool.import {
        to = there, reader = respool.file_reader { dir },
      }.pushed)
      assert.same(origin, there:peek()[1].origin)
    end)
  end

  it("goes with items that an export moves, and their codec", function()
    settle(q, "dead")
    assert(q.dead:replay())
    assert(assert(store:queue("orders", { codec = "raw" })):push "0")
    local records = {}
    assert(respool.export { queue = q, remove = true, writer = function(batch)
      for _, record in ipairs(batch) do records[#records + 1] = record end
    end })
    assert.same(origin, records[1].origin)
    assert.same({ "raw", "0" }, { records[2].codec, records[2].payload })
  end)

  it("stays through repair, with the codec", function()
    settle(q, "dead")
    assert(q.dead:replay())
    assert(assert(store:queue("orders", { codec = "raw" })):push "0")
    assert(store:close())
    local dir = helper.dir() .. "/repaired"
    assert(respool.repair(store.path, dir))
    local items = assert(helper.open(dir):queue "orders"):peek(2)
    assert.same(origin, items[1].origin)
    assert.same({ "raw", "0" }, { items[2].codec, items[2].payload })
  end)

  it("is what a record without one is of itself", function()
    local batches = {
      { { bytes = "\97x", queue = "far", id = 7, pushed_at = 12.5 } },
    }
    respool.import { to = q, reader = function()
      return table.remove(batches)
    end }
    local origins = {}
    for item in q:each() do origins[item.payload] = item.origin end
    assert.same({ queue = "far", id = 7, pushed_at = 12.5 }, origins.x)
  end)

  it("makes the idempotency key of its deliveries", function()
    local identity = require "respool.http.request".identity
    local function key() return identity(q:take():item(1)) end
    local first = key()
    store:advance(60)
    settle(q, "dead")
    assert(q.dead:replay())
    assert.equal(first, key())
  end)
end)

describe("the codec of a payload", function()
  local raw, own

  before_each(function()
    q:purge()
    raw = assert(store:queue("orders", { codec = "raw" }))
    own = assert(store:queue("orders", { codec = {
      name = "own", encode = tostring, decode = function(s) return s .. "!" end,
    } }))
  end)

  it("is that of its push, whatever handle takes it", function()
    raw:push "0"
    own:push "1"
    q:push(7)
    for _, queue in ipairs { own, raw } do
      local list = {}
      for i, item in ipairs(queue:peek(3)) do list[i] = item.payload end
      assert.same(queue == own and { "0", "1!", 7 } or { "0", "1", "\7" }, list)
    end
  end)

  it("goes with a push of every kind", function()
    raw:push_many { "0" }
    store:transaction(function(tx) tx:push(raw, "0") end)
    local batch = raw:take()
    batch:item(1):push(raw, "0")
    batch:done()
    assert(batch:settle { push = { { queue = raw, payload = "0" } } })
    local buffered = assert(store:queue("orders", {
      codec = "raw", buffer = { items = 9 },
    }))
    buffered:push "0"
    buffered:push("0", { priority = 1 })
    assert(buffered:flush())
    local found = helper.payloads(q:take { limit = 9 })
    assert.same({ "0", "0", "0", "0", "0" }, found)
  end)

  it("that a handle does not know makes a dead letter, reason version",
     function()
    own:push "1"
    assert.is_nil(q:peek()[1].payload)
    assert.equal("own", q:peek()[1].codec)
    local counts = q:work(print, { stop_when_empty = true })
    assert.equal(1, counts.failed)
    local dead_letter = own.dead:oldest()
    assert.equal("version", dead_letter.reason)
    assert.equal("1!", dead_letter.payload)
    assert.matches("codec 'own'", dead_letter.error)
  end)

  it("stays through replay and transform", function()
    raw:push "0"
    settle(q, "dead")
    assert(raw.dead:replay { transform = function(s) return s .. "1" end })
    assert.equal("01", q:peek()[1].payload)
    settle(q, "dead")
    assert(q.dead:replay())
    assert.equal("01", q:peek()[1].payload)
  end)

  it("of the original stays when a transform changes that of the payload",
     function()
    q:push { n = 1 }
    settle(q, "dead")
    local function transform(payload) return tostring(payload.n) end
    assert(q.dead:replay { to = own, transform = transform })
    local item = own:peek()[1]
    assert.same({ { n = 1 }, "1!" }, { item.original, item.payload })
    local batch = assert(own:take())
    assert.same({ n = 1 }, batch[1].original)
    batch:dead()
    assert(batch:settle())
    assert.same({ n = 1 }, own.dead:oldest().original)
    assert(own.dead:replay { to = q, transform = function() return 2 end })
    item = q:peek()[1]
    assert.same({ { n = 1 }, 2 }, { item.original, item.payload })
  end)

  it("of the original goes into files and comes out of them", function()
    own:push "1"
    settle(own, "dead")
    assert(own.dead:replay { to = q, transform = function() return 2 end })
    for _, form in ipairs { "json", "cbor" } do
      local dir = helper.dir()
      local writer = respool.file_writer(dir, { store = store, form = form })
      assert(respool.export { queue = q, writer = writer })
      local record = assert(respool.file_reader { dir }):read()[1]
      assert.same({ "own", "1" },
                  { record.original_codec, record.original_bytes })
    end
  end)

  it("is stored under a name that is no other's", function()
    for _, name in ipairs { "cbor", "raw", "" } do
      assert.error_matches(function()
        store:queue("orders", { codec = {
          name = name, encode = tostring, decode = tostring,
        } })
      end, "another name")
    end
  end)
end)
