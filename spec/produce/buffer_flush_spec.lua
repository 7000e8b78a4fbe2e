-- SPDX-License-Identifier: MIT
--
-- Flushes of a buffer that the queue or the disk refuses.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local payloads = helper.payloads

local huge = math.huge
local NEVER = { items = huge, bytes = huge, interval = 3600 }

local store, q

-- Opens the queue with a buffer that only the triggers given here flush.
local function queue(triggers, options)
  q = assert(store:queue("orders", queue_of.buffered(triggers, options)))
  return q
end

local function push(n)
  for i = 1, n do assert.is_true(q:push(tostring(i))) end
end

local function ready()
  return q:length().ready
end

local function flushes()
  local list = {}
  for reason, n in pairs(q:stats().buffer.flushes) do
    if n > 0 then list[reason] = n end
  end
  return list
end

before_each(function() store = helper.store() end)

-- A whole flush died when the queue had no room for all of it.
describe("a flush into a queue whose overflow is dead", function()
  it("buries what has no room, and commits the rest", function()
    queue(nil, { max_items = 5, overflow = "dead" })
    push(12)
    assert(q:flush())
    assert.same({ "1", "2", "3", "4", "5" }, payloads(q))
    assert.same({ "6", "7", "8", "9", "10", "11", "12" }, payloads(q.dead))
    assert.same({ manual = 1 }, flushes())
    assert.equal(1, q:stats().flushes.manual)
    assert.same({}, store:check())
  end)

  it("does so by bytes, and for what came before it", function()
    queue(nil, { max_queue_bytes = 1000, overflow = "dead" })
    for i = 1, 40 do
      assert(q:push(("%02d"):format(i) .. ("x"):rep(i % 7 == 0 and 300 or 20)))
    end
    assert(q:push(("y"):rep(900)))
    assert(q:flush())
    assert.equal(41, ready() + q.dead:count())
    assert.is_true(ready() > 10)
    local stats = q:stats()
    assert.is_true(stats.bytes <= 1000)
    assert.is_true(stats.bytes > 900)
    push(1)
    assert(q:flush())
    assert.equal(42, ready() + q.dead:count())
    assert.same({}, store:check())
  end)

  it("leaves a push of many to die as a whole", function()
    local direct = assert(store:queue("direct", {
      max_items = 5, overflow = "dead" }))
    assert(direct:push_many { 1, 2, 3, 4, 5, 6 })
    assert.same({ 0, 6 }, { direct:length().ready, direct.dead:count() })
  end)
end)

describe("a flush that fails", function()
  it("keeps its items and says why", function()
    queue(nil, { max_items = 0 })
    push(3)
    local ok, message, code = q:flush()
    assert.is_nil(ok)
    assert.matches("max_items is 0", message)
    assert.equal("FULL", code)
    local b = q:stats().buffer
    assert.equal(3, b.items)
    assert.equal(1, b.failures)
    assert.matches("max_items is 0", b.error)
    assert.equal("FULL", b.code)
    assert.equal(0, ready())
  end)

  it("commits the first of its items, as many as there is room for",
     function()
    queue(nil, { max_items = 4 })
    for i = 1, 3 do assert(q:push(("%d"):format(i), { priority = i })) end
    push(6)
    local ok, _, code = q:flush()
    assert.is_nil(ok)
    assert.equal("FULL", code)
    assert.equal(4, ready())
    assert.equal(5, q:stats().buffer.items)
    assert.equal("1", q:get(4).payload)
  end)

  it("gets a load into a queue that can never hold it whole", function()
    queue(nil, { max_items = 7, max_queue_bytes = "1MiB" })
    for i = 1, 50 do
      local size = i % 10 == 0 and 20000 or i
      assert(q:push(("%02d"):format(i) .. ("x"):rep(size)))
    end
    local seen = {}
    while not q:flush() do
      local batch = assert(q:take { limit = 5 })
      for payload in batch:each() do
        seen[#seen + 1] = tonumber(payload:sub(1, 2))
        assert.equal(2 + (#seen % 10 == 0 and 20000 or #seen), #payload)
      end
      batch:done()
      assert(batch:settle())
    end
    assert.equal(50, #seen + ready())
    for i, n in ipairs(seen) do assert.equal(i, n) end
    assert.equal(0, q:stats().buffer.items)
    assert.equal(0, q:stats().buffer.bytes)
    assert.same({}, store:check())
  end)

  it("is tried again, less and less often", function()
    queue({ items = 3 }, { max_items = 2 })
    push(3)
    assert.equal(1, q:stats().buffer.failures)
    store:advance(0.1)
    assert.equal(2, q:stats().buffer.failures)
    store:advance(0.19)
    assert.equal(2, q:stats().buffer.failures)
    store:advance(0.01)
    assert.equal(3, q:stats().buffer.failures)
    assert(store:queue("orders", { max_items = 10 }))
    store:advance(30)
    assert.equal(3, ready())
    assert.is_nil(q:stats().buffer.error)
  end)

  it("holds up nothing that is pushed after it, in order", function()
    queue({ items = 3 }, { max_items = 2 })
    push(5)
    assert(store:queue("orders", { max_items = 10 }))
    assert.is_true(q:flush())
    assert.same({ "1", "2", "3", "4", "5" }, payloads(q))
  end)

  it("is told to on_error, once each time", function()
    local told = {}
    store = helper.store { on_error = function(e) table.insert(told, e) end }
    queue({ items = 3 }, { max_items = 2 })
    push(3)
    assert.equal(1, #told)
    assert.equal("buffer", told[1].where)
    assert.equal("FULL", told[1].code)
    assert.matches("max_items is 2", told[1].message)
    push(1)
    assert.equal(1, #told)
    q:flush()
    assert.equal(2, #told)
  end)

  -- Only a push on the handle of the buffer itself told, and close().
  describe("in the background is told by", function()
    local told, other

    before_each(function()
      told = {}
      store = helper.store { on_error = function(e) table.insert(told, e) end }
      queue({ interval = 1 }, { max_items = 2 })
      other = assert(store:queue "others")
      push(3)
      store:advance(1)
      assert.same({}, told)
    end)

    local function is_told_by(what, call)
      it(what, function()
        call()
        assert.equal(1, #told)
        assert.equal("buffer", told[1].where)
        assert.equal("FULL", told[1].code)
        assert.matches("queue 'orders' .* max_items is 2", told[1].message)
      end)
    end

    is_told_by("a push to its queue", function() assert(q:push "x") end)
    is_told_by("a push to another", function() assert(other:push "x") end)
    is_told_by("many pushes to another",
               function() assert(other:push_many { "x" }) end)
    is_told_by("a flush of another", function() assert(other:flush()) end)
    is_told_by("a take", function() assert(other:take()) end)
    is_told_by("work", function()
      assert(other:work(error, { stop_when_empty = true }))
    end)
    is_told_by("each round of work", function()
      assert(other:push_many { 1, 2 })
      told = {}
      local seen = {}
      assert(other:work(function()
        table.insert(seen, #told)
        if #told == 0 then store:advance(0.15) end
      end, { batch = 1, timeout = 0 }))
      assert.same({ 0, 1 }, seen)
    end)
    is_told_by("maintain", function() assert(store:maintain()) end)
    is_told_by("health", function() store:health() end)
    is_told_by("the stats of a queue", function() assert(other:stats()) end)
    is_told_by("the stats of the store", function() assert(store:stats()) end)
    is_told_by("metrics", function() assert(store:metrics()) end)

    it("a close, with those before it", function()
      store:advance(0.1)
      assert.is_nil(store:close())
      assert.equal(2, #told)
      assert.matches("^3 flushes of queue", told[1].message)
      assert.equal("close", told[2].where)
    end)

    it("nobody twice", function()
      store:stats()
      store:health()
      assert.equal(1, #told)
    end)

    it("on_error that closes the store, and work ends", function()
      store.on_error = function() store:close() end
      local counts, _, code, so_far = other:work(error, { timeout = 0 })
      assert.same({ nil, "FULL", 0 }, { counts, code, so_far.items })
      assert.is_true(store.handle:closed())
    end)
  end)

  it("is told by the store that is closed on it", function()
    queue(nil, { max_items = 2 })
    push(3)
    local ok, message, code = store:close()
    assert.is_nil(ok)
    assert.matches("max_items is 2", message)
    assert.equal("FULL", code)
    assert.is_true(store:close())
  end)

  it("is told by the store that is flushed", function()
    queue(nil, { max_items = 2 })
    push(3)
    local other = assert(store:queue("others", { buffer = NEVER }))
    assert(other:push "x")
    local ok, _, code = store:flush()
    assert.is_nil(ok)
    assert.equal("FULL", code)
    assert.equal(1, other:length().ready)
  end)
end)
