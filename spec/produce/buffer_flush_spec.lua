-- SPDX-License-Identifier: MIT
--
-- Flushes of a buffer that the queue or the disk refuses.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local payloads = helper.payloads

local t

before_each(function() t = queue_of.in_store() end)

describe("a flush with a timeout", function()
  it("returns true when it is in time", function()
    t:buffered()
    t:push(3)
    assert.is_true(t.q:flush { timeout = 20 })
    assert.is_true(t.q.store:flush { timeout = 20 })
    assert.is_true(t.q.store:queue "another":flush { timeout = 20 })
    assert.equal(3, t.q:stats().ready)
  end)

  -- It waited for as long as the other process wrote.
  it("ends with it while another process writes, and goes on", function()
    t.store = assert(helper.open(helper.location()))
    local q = assert(t.store:queue("mails", { buffer = { items = 100 } }))
    local go = helper.dir() .. "/go"
    local lock = assert(io.popen(("exec %s/spec/writer %s %s"):format(
      os.getenv "RESPOOL_BUILD", t.store.path, go)))
    assert.equal("held", lock:read())
    assert(q:push "first") -- now, or the buffer may flush it before
    assert.equal("TIMEOUT", helper.code(q:flush { timeout = 0.05 }))
    assert.equal("TIMEOUT", helper.code(t.store:flush { timeout = 0.05 }))
    assert.error_matches(function() q:flush { timeout = -1 } end, "'timeout'")
    helper.write(go, "")
    lock:close()
    assert.is_true(q:flush { timeout = 20 })
    assert.equal(1, q:stats().ready)
    assert(t.store:close())
  end)
end)

-- A whole flush died when the queue had no room for all of it.
describe("a flush into a queue whose overflow is dead", function()
  it("buries what has no room, and commits the rest", function()
    t:buffered(nil, { max_items = 5, overflow = "dead" })
    t:push(12)
    assert(t.q:flush())
    assert.same({ "1", "2", "3", "4", "5" }, payloads(t.q))
    assert.same({ "6", "7", "8", "9", "10", "11", "12" }, payloads(t.q.dead))
    assert.same({ manual = 1 }, t:flushes())
    assert.equal(1, t.q:stats().flushes.manual)
    assert.same({}, t.store:check())
  end)

  it("does so by bytes, and for what came before it", function()
    t:buffered(nil, { max_queue_bytes = 1000, overflow = "dead" })
    for i = 1, 40 do
      local size = i % 7 == 0 and 300 or 20
      assert(t.q:push(("%02d"):format(i) .. ("x"):rep(size)))
    end
    assert(t.q:push(("y"):rep(900)))
    assert(t.q:flush())
    assert.equal(41, t:ready() + t.q.dead:count())
    assert.is_true(t:ready() > 10)
    local stats = t.q:stats()
    assert.is_true(stats.bytes <= 1000)
    assert.is_true(stats.bytes > 900)
    t:push(1)
    assert(t.q:flush())
    assert.equal(42, t:ready() + t.q.dead:count())
    assert.same({}, t.store:check())
  end)

  it("leaves a push of many to die as a whole", function()
    local direct = assert(t.store:queue("direct", {
      max_items = 5, overflow = "dead" }))
    assert(direct:push_many { 1, 2, 3, 4, 5, 6 })
    assert.same({ 0, 6 }, { direct:length().ready, direct.dead:count() })
  end)
end)

describe("a flush that fails", function()
  it("keeps its items and says why", function()
    t:buffered(nil, { max_items = 0 })
    t:push(3)
    local ok, message, code = t.q:flush()
    assert.is_nil(ok)
    assert.matches("max_items is 0", message)
    assert.equal("FULL", code)
    local b = t.q:stats().buffer
    assert.equal(3, b.items)
    assert.equal(1, b.failures)
    assert.matches("max_items is 0", b.error)
    assert.equal("FULL", b.code)
    assert.equal(0, t:ready())
  end)

  it("commits the first of its items, as many as there is room for",
     function()
    t:buffered(nil, { max_items = 4 })
    for i = 1, 3 do assert(t.q:push(("%d"):format(i), { priority = i })) end
    t:push(6)
    local ok, _, code = t.q:flush()
    assert.is_nil(ok)
    assert.equal("FULL", code)
    assert.equal(4, t:ready())
    assert.equal(5, t.q:stats().buffer.items)
    assert.equal("1", t.q:get(4).payload)
  end)

  it("gets a load into a queue that can never hold it whole", function()
    t:buffered(nil, { max_items = 7, max_queue_bytes = "1MiB" })
    for i = 1, 50 do
      local size = i % 10 == 0 and 20000 or i
      assert(t.q:push(("%02d"):format(i) .. ("x"):rep(size)))
    end
    local seen = {}
    while not t.q:flush() do
      local batch = assert(t.q:take { limit = 5 })
      for payload in batch:each() do
        seen[#seen + 1] = tonumber(payload:sub(1, 2))
        assert.equal(2 + (#seen % 10 == 0 and 20000 or #seen), #payload)
      end
      batch:done()
      assert(batch:settle())
    end
    assert.equal(50, #seen + t:ready())
    for i, n in ipairs(seen) do assert.equal(i, n) end
    assert.equal(0, t.q:stats().buffer.items)
    assert.equal(0, t.q:stats().buffer.bytes)
    assert.same({}, t.store:check())
  end)

  it("is tried again, less and less often", function()
    t:buffered({ items = 3 }, { max_items = 2 })
    t:push(3)
    assert.equal(1, t.q:stats().buffer.failures)
    t.store:advance(0.1)
    assert.equal(2, t.q:stats().buffer.failures)
    t.store:advance(0.19)
    assert.equal(2, t.q:stats().buffer.failures)
    t.store:advance(0.01)
    assert.equal(3, t.q:stats().buffer.failures)
    assert(t.store:queue("orders", { max_items = 10 }))
    t.store:advance(30)
    assert.equal(3, t:ready())
    assert.is_nil(t.q:stats().buffer.error)
  end)

  it("holds up nothing that is pushed after it, in order", function()
    t:buffered({ items = 3 }, { max_items = 2 })
    t:push(5)
    assert(t.store:queue("orders", { max_items = 10 }))
    assert.is_true(t.q:flush())
    assert.same({ "1", "2", "3", "4", "5" }, payloads(t.q))
  end)

  it("is told to on_error, once each time", function()
    local told = {}
    t.store = helper.store { on_error = function(e) table.insert(told, e) end }
    t:buffered({ items = 3 }, { max_items = 2 })
    t:push(3)
    assert.equal(1, #told)
    assert.equal("buffer", told[1].where)
    assert.equal("FULL", told[1].code)
    assert.matches("max_items is 2", told[1].message)
    t:push(1)
    assert.equal(1, #told)
    t.q:flush()
    assert.equal(2, #told)
  end)

  -- Only a push on the handle of the buffer itself told, and close().
  describe("in the background is told by", function()
    local told, other

    before_each(function()
      told = {}
      t.store = helper.store {
        on_error = function(e) table.insert(told, e) end,
      }
      t:buffered({ interval = 1 }, { max_items = 2 })
      other = assert(t.store:queue "others")
      t:push(3)
      t.store:advance(1)
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

    is_told_by("a push to its queue", function() assert(t.q:push "x") end)
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
        if #told == 0 then t.store:advance(0.15) end
      end, { batch = 1, timeout = 0 }))
      assert.same({ 0, 1 }, seen)
    end)
    is_told_by("maintain", function() assert(t.store:maintain()) end)
    is_told_by("health", function() t.store:health() end)
    is_told_by("the stats of a queue", function() assert(other:stats()) end)
    is_told_by("the stats of the store", function() assert(t.store:stats()) end)
    is_told_by("metrics", function() assert(t.store:metrics()) end)

    it("a close, with those before it", function()
      t.store:advance(0.1)
      assert.is_nil(t.store:close())
      assert.equal(2, #told)
      assert.matches("^3 flushes of queue", told[1].message)
      assert.equal("close", told[2].where)
    end)

    it("nobody twice", function()
      t.store:stats()
      t.store:health()
      assert.equal(1, #told)
    end)

    it("on_error that closes the store, and work ends", function()
      t.store.on_error = function() t.store:close() end
      local counts, _, code, so_far = other:work(error, { timeout = 0 })
      assert.same({ nil, "FULL", 0 }, { counts, code, so_far.items })
      assert.is_true(t.store.handle:closed())
    end)
  end)

  it("is told by the store that is closed on it", function()
    t:buffered(nil, { max_items = 2 })
    t:push(3)
    local ok, message, code = t.store:close()
    assert.is_nil(ok)
    assert.matches("max_items is 2", message)
    assert.equal("FULL", code)
    assert.is_true(t.store:close())
  end)

  it("is told by the store that is flushed", function()
    t:buffered(nil, { max_items = 2 })
    t:push(3)
    local other = assert(t.store:queue("others", {
      buffer = queue_of.buffered().buffer,
    }))
    assert(other:push "x")
    local ok, _, code = t.store:flush()
    assert.is_nil(ok)
    assert.equal("FULL", code)
    assert.equal(1, other:length().ready)
  end)
end)
