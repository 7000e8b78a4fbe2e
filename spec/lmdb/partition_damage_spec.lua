-- SPDX-License-Identifier: MIT
--
-- A damaged record of partitions is never taken for another: what needs it says
-- CORRUPT, the check names it, other queues go on, and a repair makes it anew.

local helper = require "spec.helper"
local respool = require "respool"
local stored = require "spec.helper.stored"

local LISTED, LONE = 400, 20
local ITEMS = LISTED + LONE

local store, q, other

-- Two partitions, whose ids alternate, so that they have lists of them, and
-- some of one item each.
before_each(function()
  store = helper.store()
  q = assert(store:queue "orders")
  other = assert(store:queue "other")
  assert(other:push "plain")
  for i = 1, LISTED do
    assert(q:push(i, { partition = i % 2 == 0 and "even" or "odd" }))
  end
  for i = 1, LONE do assert(q:push(i, { partition = "key " .. i })) end
end)

-- Takes all that comes, and the code of the error that ends it.
local function drain(from, found)
  for _ = 1, ITEMS do
    local batch, _, code = from:take { limit = 10 }
    if not batch or #batch == 0 then return code end
    for i = 1, #batch do found[#found + 1] = batch:item(i).payload end
    batch:done()
    local ok, _, why = batch:settle()
    if not ok then return why end
  end
end

local function assert_repaired()
  local to, found = helper.dir() .. "/repaired", {}
  local path = store.path
  store:close()
  assert(respool.repair(path, to))
  store = assert(helper.open(to, { clock = "manual" }))
  q = assert(store:queue "orders")
  assert.same({}, store:check())
  assert.is_nil(drain(q, found))
  assert.equal(ITEMS, #found)
  assert.same({}, q:partitions())
end

describe("a damaged record of partitions", function()
  for _, table_name in ipairs {
    "partitions", "partition_items", "turns", "lones",
  } do
    it("in " .. table_name .. " is named, stops one queue, and is repaired",
       function()
      stored.damage(store.path, "flip", table_name, 0, -1)
      local findings = table.concat(store:check(), "\n")
      assert.matches("of queue 'orders'.*damaged", findings)
      assert.same({ "plain" }, helper.payloads(assert(other:take())))
      assert_repaired()
    end)
  end

  it("ends takes with CORRUPT, and a line that says what to do", function()
    for _, table_name in ipairs { "turns", "partition_items", "partitions" } do
      stored.damage(store.path, "flip", table_name, 0, -1)
      assert.equal("CORRUPT", drain(q, {}))
      local _, message = q:take { limit = 100 }
      assert.matches("a record of the partitions of queue 'orders' is damaged; "
        .. "a repair makes it anew", message)
      stored.damage(store.path, "flip", table_name, 0, -1) -- back
    end
    assert.same({}, store:check())
  end)

  it("ends pushes to it and the list with CORRUPT, no others", function()
    stored.damage(store.path, "flip", "partitions", 0, -1) -- "even"
    assert.equal("CORRUPT", select(3, q:push(1, { partition = "even" })))
    assert.equal("CORRUPT", select(3, q:partitions()))
    assert(q:push(1, { partition = "odd" }))
    assert(q:push(1, { partition = "new" }))
    assert(q:push(1))
  end)

  it("of lone items ends pushes to those, and the list, with CORRUPT; not "
     .. "takes, nor settles", function()
    stored.damage(store.path, "flip", "lones", 0, -1)
    assert.equal("CORRUPT", select(3, q:push(1, { partition = "key 1" })))
    assert.equal("CORRUPT", select(3, q:partitions()))
    assert(q:push(1, { partition = "odd" }))
    assert(q:push(1))
    assert.is_nil(drain(q, {}))
    assert.same({}, store:check())
    assert(q:push(1, { partition = "key 1" }))
  end)

  -- Runs of lone items that have mostly ended are written anew with their
  -- neighbours by the settle that finds them: it failed where one was damaged.
  it("of lone items ends no settle that would write them anew", function()
    local many, n = assert(store:queue "many"), 3000
    for run = 0, 1 do
      local items = {}
      for i = 1, n do items[i] = run * n + i end
      assert(many:push_many(items, { partition = tostring }))
    end
    assert(many:take { limit = 1 }) -- and neither run goes
    stored.damage(store.path, "flip", "lones", 10, -1)
    for _ = 1, 2 * n / 100 - 1 do
      local batch = assert(many:take { limit = 100 })
      batch:done()
      assert(batch:settle())
    end
    assert.equal("CORRUPT", select(3, many:partitions()))
  end)

  -- Where no claim covers items was looked for from the first id of a claim
  -- that could not be read, again and again.
  it("is passed by looks also where it is a claim among them", function()
    assert(q:take { limit = 5 })
    stored.damage(store.path, "flip", "claims", 0, -1)
    local n = 0
    for _ in q:each() do n = n + 1 end
    assert.is_true(n >= ITEMS - 5 and n <= ITEMS, n)
    assert.equal(10, #assert(q:peek(10)))
  end)
end)

-- Nobody knew of which partition an item was that could not be read when its
-- lease ran out or it was due: it kept its place until a repair.
describe("a damaged item of a partition", function()
  local bounded

  before_each(function()
    store = helper.store()
    bounded = assert(store:queue("bounded", {
      lease = 10, partitions = { concurrency = 1, ordered = true },
    }))
    for i = 1, 2 do assert(bounded:push(i, { partition = "a" })) end
  end)

  local function assert_served()
    store:advance(11)
    local batch = assert(bounded:take())
    assert.same({ 2 }, helper.payloads(batch))
    batch:done()
    assert(batch:settle())
    assert.same({}, bounded:partitions())
    assert.same({}, store:check())
  end

  it("gives its place back when its lease runs out", function()
    assert.same({ 1 }, helper.payloads(assert(bounded:take())))
    stored.damage(store.path, "flip", "segments", 0, -1)
    assert_served()
  end)

  it("is in nobody's way once it is due", function()
    local batch = assert(bounded:take())
    batch:item(1):retry { delay = 10 }
    assert(batch:settle())
    stored.damage(store.path, "flip", "segments", 1, -1)
    assert_served()
  end)

  it("is counted no more when it was the only one of its partition", function()
    local free = assert(store:queue "free")
    assert(free:push(1, { partition = "b" }))
    assert.equal(1, #assert(free:take()))
    stored.damage(store.path, "flip", "segments", 2, -1)
    store:advance(3600)
    assert.equal(0, #(free:take() or {}))
    assert.same({}, free:partitions())
    assert.equal(0, free:stats().partitions)
    assert.same({}, store:check())
  end)
end)
