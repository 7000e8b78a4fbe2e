-- SPDX-License-Identifier: MIT
--
-- Lone items: where nothing bounds partitions, an item that is all that its
-- partition has is stored in another way. It differs in nothing but cost.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local respool = require "respool"
local payloads = helper.payloads
local settle = queue_of.settle_each
local unpack = table.unpack or unpack

local it = helper.checked(it)

local t

-- Pushes one item of each partition, with its key as payload.
local function push(...)
  local keys = { ... }
  assert(t.q:push_many(keys, { partition = function(key) return key end }))
end

local function push_to(key, payload)
  return assert(t.q:push(payload, { partition = key }))
end

local function counts(key)
  local p = t:partition(key)
  return p and { p.ready, p.leased, p.scheduled }
end

-- Of this process, in kilobytes.
local function memory(which)
  local status = assert(io.open "/proc/self/status")
  local kilobytes = status:read "*a":match(which .. ":%s*(%d+)")
  status:close()
  return tonumber(kilobytes)
end

describe("a lone item", function()
  before_each(function() t = queue_of.new {} end)

  it("is counted by its partition until it is done", function()
    push("a", "b")
    assert.same({ 1, 0, 0 }, counts "a")
    local batch = t:take(1)
    assert.same({ 0, 1, 0 }, counts "a")
    assert.same({ 1, 0, 0 }, counts "b")
    settle(batch, "done")
    assert.is_nil(counts "a")
    assert.equal(1, t.q:stats().partitions)
  end)

  it("has its turn, and what comes later one behind the others", function()
    push("a", "b")
    push_to("a", "second")
    assert.same({ 2, 0, 0 }, counts "a")
    assert.same({ "a" }, payloads(t:take(1)))
    assert.same({ "b" }, payloads(t:take(1)))
    assert.same({ "second" }, payloads(t:take(1)))
    assert.same({ 0, 2, 0 }, counts "a")
  end)

  it("is one beside what comes while it is leased", function()
    push "a"
    local batch = t:take(1)
    push_to("a", "second")
    push_to("a", "third")
    assert.same({ 2, 1, 0 }, counts "a")
    settle(batch, "done")
    assert.same({ 2, 0, 0 }, counts "a")
    settle(t:take(10), "done")
    assert.is_nil(counts "a")
  end)

  it("is none where a push has more of its partition", function()
    push("a", "b", "a", "c")
    assert.same({ 2, 0, 0 }, counts "a")
    assert.same({ "a" }, payloads(t:take(1)))
  end)

  for outcome, left in pairs {
    retry = { 0, 0, 1 }, snooze = { 0, 0, 1 }, release = { 1, 0, 0 },
    hold = { 1, 0, 0 }, dead = false, drop = false,
  } do
    it("comes back, or not, by " .. outcome, function()
      push("a", "b")
      local options = { retry = { delay = 5 }, snooze = 5, hold = 5 }
      settle(t:take(1), outcome, options[outcome])
      assert.same(left or nil, (counts "a"))
      t.store:advance(6)
      assert.equal(left and 2 or 1, #t:take(10))
    end)
  end

  it("comes back when its lease has run out", function()
    t:queue { lease = 30 }
    push("a", "b")
    t:take(2)
    t.store:advance(31)
    local batch = t:take(1)
    assert.equal(1, batch:item(1).crashes)
    push_to("a", "second")
    assert.equal(1, #t:take(1))
  end)

  it("ends by a removal, a purge, its time and a kill", function()
    push("a", "b", "c", "d")
    assert(t.q:remove(1))
    assert(t.q:kill(2))
    assert.is_nil(counts "a")
    assert.is_nil(counts "b")
    t.q:push("short", { partition = "e", ttl = 5 })
    t.store:advance(6)
    assert.same({ "c" }, payloads(t:take(1)))
    assert.equal(1, t.q:stats().expired)
    assert.equal(1, t.q:purge())
    assert.is_nil(counts "d")
  end)

  -- A take sweeps some expired segments, and ends by itself those that it meets
  -- then. Their items left their segments, but not their partitions, which were
  -- listed, and in the way of a strict order, for ever.
  it("ends by its time also where a take meets it", function()
    for i = 1, 100 do
      assert(t.q:push(i, { partition = "key " .. i, ttl = 5 }))
    end
    t.store:advance(6)
    assert.equal(0, #t:take(100))
    assert.equal(100, t.q:stats().expired)
    assert.equal(0, t.q:stats().partitions)
  end)

  -- Each turn of an item that had ended cost a copy of the record in which it
  -- was, and all copies were kept until the take's end: 400 MB here.
  it("costs a take little memory when it has ended", function()
    local keys = {}
    for i = 1, 30000 do keys[i] = "key " .. i end
    assert(t.q:push_many(keys, {
      partition = function(key) return key end, ttl = 5
    }))
    push("a")
    t.store:advance(6)
    local before = memory "VmHWM"
    assert.same({ "a" }, payloads(t:take(1)))
    assert.is_true(memory "VmHWM" - before < 100 * 1024)
  end)

  it("is cancelled while it is leased", function()
    push("a", "b")
    local batch = t:take(2)
    assert(t.q:cancel(1))
    assert.is_nil(counts "a")
    batch:item(2):done()
    assert(batch:settle())
    assert.same({}, t.q:partitions())
  end)

  it("is edited, and moves to another queue", function()
    local other = assert(t.store:queue "other")
    push("a", "b")
    assert(t.q:edit(1, "new"))
    assert(t.q:move(2, other))
    assert.is_nil(counts "b")
    assert.same({ "new" }, payloads(t:take(10)))
    assert.equal("b", other:partitions()[1].key)
  end)

  it("is held with its partition", function()
    push("a", "b")
    assert(t.q:hold(10, { partition = "a" }))
    push_to("a", "second")
    assert.same({ "b" }, payloads(t:take(10)))
    t.store:advance(11)
    assert.same({ "a", "second" }, payloads(t:take(10)))
  end)

  it("is in the way of a bound that comes later", function()
    push("a", "b")
    local batch = t:take(1)
    push "c"
    t:queue { partitions = { concurrency = 1 } }
    push_to("a", "second of a")
    push_to("c", "second of c")
    assert.same({ "b", "c" }, payloads(t:take(10)))
    settle(batch, "done")
    assert.same({ "second of a" }, payloads(t:take(10)))
  end)

  it("is in the way of a strict order that comes later", function()
    push("a", "b")
    local batch = t:take(1)
    t:queue { partitions = { ordered = true } }
    push_to("a", "second of a")
    push_to("b", "second of b")
    assert.same({ "b" }, payloads(t:take(10)))
    settle(batch, "retry", { delay = 5 })
    assert.equal(0, #t:take(10))
    t.store:advance(6)
    batch = t:take(10)
    assert.same({ "a" }, payloads(batch))
    settle(batch, "done")
    assert.same({ "second of a" }, payloads(t:take(10)))
  end)

  it("spends of a rate that comes later", function()
    push("a", "b")
    t:queue { partitions = { rate = { items = 1, per = 10 } } }
    push_to("a", "second")
    assert.same({ "a", "b" }, payloads(t:take(10)))
    assert.equal(0, #t:take(10))
    t.store:advance(11)
    assert.same({ "second" }, payloads(t:take(10)))
  end)

  -- The ends of lone items were written while the name of a partition that was
  -- due lay in the store: another one was looked up then, and the first never
  -- again.
  it("hides no hold that ends with it", function()
    t.q:push("short", { partition = "a", ttl = 5 })
    for _, key in ipairs { "b", "c", "d" } do
      assert(t.q:hold(5, { partition = key }))
      push(key)
    end
    t.store:advance(6)
    assert.same({ "b", "c", "d" }, payloads(t:take(10)))
    assert.same({}, t.store:check())
  end)

  it("is first again where a batch had no room for it", function()
    for _, key in ipairs { "a", "b", "c" } do
      push_to(key, key .. ("."):rep(1000))
    end
    for _, key in ipairs { "a", "b", "c" } do
      local batch = assert(t.q:take { limit = 10, bytes = 500 })
      assert.equal(1, #batch)
      assert.equal(key, batch:item(1).partition)
    end
  end)

  it("that has ended hides none behind it", function()
    local keys = {}
    for i = 1, 2000 do keys[i] = "key " .. i end
    push(unpack(keys, 1, 1000))
    push(unpack(keys, 1001, 2000))
    for id = 1, 1999 do assert(t.q:remove(id)) end
    assert.same({ "key 2000" }, payloads(t:take(1)))
    assert.equal(1, t.q:stats().partitions)
  end)

  it("is listed among others, by key and by size", function()
    push("b", "d", "f")
    for _, key in ipairs { "a", "c", "e" } do
      push_to(key, 1)
      push_to(key, 2)
    end
    local function keys(o)
      local list = {}
      for i, p in ipairs(assert(t.q:partitions(o))) do list[i] = p.key end
      return table.concat(list)
    end
    assert.equal("abcdef", keys())
    assert.equal("cde", keys { limit = 3, after = "b" })
    assert.equal("def", keys { limit = 3, after = "c" })
    assert.equal("aceb", keys { order = "size", limit = 4 })
  end)

  -- What a process knows of the names in a queue stayed: 13 MB here.
  it("leaves nothing in memory of queues that are dropped", function()
    local function use_queues(n)
      for i = 1, n do
        local q = assert(t.store:queue("job " .. i))
        assert(q:push("x", { partition = "a" }))
        assert(t.store:drop_queue("job " .. i))
      end
      collectgarbage()
      return memory "RssAnon"
    end
    local before = use_queues(50)
    assert.is_true(use_queues(800) - before < 5 * 1024)
  end)

  it("goes with a queue that is dropped, and comes through a repair", function()
    push("a", "b", "c")
    local other = assert(t.store:queue "other")
    assert(other:push("x", { partition = "a" }))
    assert(t.store:drop_queue "other")
    local from, to = t.store.path, helper.dir() .. "/repaired"
    local now = t.store:now()
    assert(t.store:close())
    assert(respool.repair(from, to))
    t.store = assert(helper.open(to, { clock = "manual" }))
    t.store:advance(now - t.store:now() + 1)
    t:queue()
    assert.same({ "a", "b", "c" }, payloads(t:take(10)))
  end)
end)
