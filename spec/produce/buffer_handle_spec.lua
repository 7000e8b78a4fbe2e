-- SPDX-License-Identifier: MIT
--
-- The bounds of a buffer, its options, and its end with its handle.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local payloads = helper.payloads

local huge = math.huge

local t

before_each(function() t = queue_of.in_store() end)

-- What lies around a payload was not counted: by pushes that each took a
-- structure of their own a buffer grew to 70 and 700 times its bound.
describe("the memory of a buffer", function()
  local ROOM = 2^18

  local function fill(options, push_one)
    t:buffered({ max_buffered_bytes = ROOM }, options)
    local n = 0
    repeat
      n = n + 1
      local ok = push_one(n)
    until not ok or n > 2 * ROOM
    local b = t.q:stats().buffer
    assert.is_true(b.memory <= ROOM + 2^10) -- what the last took
    assert.is_true(b.memory > ROOM - 2^11)
    return n - 1, b.bytes
  end

  local NO_ROOM = { max_items = 0 }

  it("is little more than the payloads, where pushes are alike", function()
    local n, bytes = fill(NO_ROOM, function()
      return t.q:push(("x"):rep(100))
    end)
    assert.equal(n * 100, bytes)
    assert.is_true(bytes > 0.9 * ROOM)
  end)

  it("counts what is around payloads of no bytes", function()
    assert.is_true(fill(NO_ROOM, function() return t.q:push "" end) <= ROOM)
  end)

  it("counts what priorities, keys and delays take", function()
    local least = ROOM / 200 -- a part has more than 200 bytes
    assert.is_true(least > fill(NO_ROOM, function(i)
      return t.q:push("x", { priority = i % 2 })
    end))
    assert.is_true(least > fill(NO_ROOM, function(i)
      return t.q:push("x", { key = tostring(i), on_conflict = "ignore" })
    end))
    assert.is_true(least > fill(NO_ROOM, function(i)
      return t.q:push("x", { delay = i })
    end))
  end)

  it("counts the names of what may be merged", function()
    local n = fill({
      max_items = 0, merge = {
        key = function(p) return ("k"):rep(100) .. p end,
        with = function(_, new) return new end,
      },
    }, function(i) return t.q:push(tostring(i)) end)
    assert.is_true(n < ROOM / 200)
  end)

  it("is given back by a flush, to the last byte", function()
    t:buffered(nil, { max_items = 7, merge = {
      key = function(p) return p:match "^k%d*" end,
      with = function(old, new) return old .. new end,
    } })
    for i = 1, 10 do
      assert(t.q:push("x", { priority = i % 3 }))
      assert(t.q:push("k" .. i % 4))
      assert(t.q:push("y", { ttl = i }))
    end
    assert.is_nil(t.q:flush())
    assert.is_true(t.q:stats().buffer.memory > 0)
    assert(t.store:queue("orders", { max_items = huge }))
    assert(t.q:flush())
    local b = t.q:stats().buffer
    assert.same({ 0, 0, 0 }, { b.items, b.bytes, b.memory })
  end)
end)

describe("the option buffer", function()
  local function refuses(options, message)
    it("refuses " .. message, function()
      assert.error_matches(function()
        t.store:queue("orders", { buffer = options })
      end, message)
    end)
  end

  refuses(true, "option 'buffer' must be a table of options")
  refuses({ size = 1 }, "store:queue: buffer: unknown option 'size'")
  refuses({ items = 0 }, "buffer: option 'items' must be ")
  refuses({ items = 1.5 }, "buffer: option 'items' must be ")
  refuses({ bytes = "much" }, "buffer: option 'bytes' must be ")
  refuses({ pushes = -1 }, "buffer: option 'pushes' must be ")
  refuses({ interval = 0 }, "buffer: option 'interval' must be ")
  refuses({ interval = "1x" }, "buffer: option 'interval' must be ")
  refuses({ max_buffered_bytes = huge }, "option 'max_buffered_bytes' must be")
  refuses({ items = huge, bytes = huge, interval = huge },
          "has no trigger")

  -- The queue was there, with its new policy, when the buffer was refused.
  it("is looked at before the queue is made", function()
    local none = { items = huge, bytes = huge, interval = huge }
    assert.has_error(function()
      t.store:queue("neu", { max_attempts = 7, buffer = none })
    end)
    assert.has_error(function()
      t.store:queue("neu", { merge = { key = tostring, with = math.max } })
    end)
    assert.same({}, t.store:queues())
  end)

  -- It raised a line of ours.
  it("takes counts that are never reached for math.huge", function()
    t:buffered { items = 2^60, pushes = 2^60, interval = 1 }
    t:push(3)
    t.store:advance(1)
    assert.equal(3, t:ready())
    assert.error_matches(function()
      t:buffered { items = 2^60, bytes = huge, interval = huge }
    end, "has no trigger")
  end)
end)

-- What the buffer of a collected handle could not flush was lost, and nobody
-- was told: flush() and close() returned true.
describe("a buffered queue that is collected", function()
  local told

  local function collect()
    t.q = nil
    collectgarbage()
    collectgarbage()
  end

  before_each(function()
    told = {}
    t.store = helper.store { on_error = function(e) table.insert(told, e) end }
    t:buffered(nil, { max_items = 2 })
    t:push(5)
    collect()
  end)

  local function take_all()
    local batch = assert(t.q:take { limit = 9 })
    batch:done()
    assert(batch:settle())
    return #batch
  end

  it("leaves what has no room to its store", function()
    t.q = assert(t.store:queue "orders")
    assert.equal(2, t:ready())
    local b = t.store:health().components.buffers.orders
    assert.equal(3, b.items)
    assert.equal("degraded", b.status)
    assert.matches('respool_buffered_items{queue="orders"} 3',
                   t.store:metrics())
  end)

  it("is tried again as time passes", function()
    t.q = assert(t.store:queue("orders", { codec = "raw" }))
    assert.equal(2, take_all())
    t.store:advance(0.1)
    assert.same({ "3", "4" }, payloads(t.q:take { limit = 9 }))
  end)

  it("is flushed by its store, until nothing is left", function()
    t.q = assert(t.store:queue "orders")
    local ok, _, code = t.store:flush()
    assert.is_nil(ok)
    assert.equal("FULL", code)
    take_all()
    assert.is_nil(t.store:flush())
    take_all()
    assert.is_true(t.store:flush())
    assert.equal(1, take_all())
    assert.is_nil(t.store:health().components.buffers)
    assert.equal(5, t.q:stats().pushed)
  end)

  it("tells on_error", function()
    assert(t.store:stats())
    assert.equal(1, #told)
    assert.matches("queue 'orders' .* max_items is 2", told[1].message)
  end)

  it("is counted by the close of its store", function()
    local ok, message, code, left = t.store:close()
    assert.is_nil(ok)
    assert.matches("max_items is 2", message)
    assert.equal("FULL", code)
    assert.equal(3, left.buffered)
  end)

  it("is no burden once it is empty", function()
    assert(t.store:queue("orders", { max_items = huge }))
    assert.is_true(t.store:flush())
    for _ = 1, 20 do
      t:buffered()
      t:push(1)
      collect()
    end
    assert.same({}, t.store.handle:buffers())
  end)
end)
