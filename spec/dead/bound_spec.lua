-- SPDX-License-Identifier: MIT
--
-- keep_dead: how many dead letters a queue's DLQ keeps, and how many bytes.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local respool = require "respool"

local t

local it = helper.checked(it)

local function fresh(keep_dead, more)
  local o = more or {}
  o.keep_dead = keep_dead
  t = queue_of.new(o)
end

-- The payloads of the dead letters that are left, oldest first.
local function left()
  local list = {}
  for dead_letter in t.q.dead:each() do
    list[#list + 1] = dead_letter.payload
  end
  return list
end

local function bury(n, from)
  for i = from or 1, (from or 1) + n - 1 do
    assert(t.q.dead:push(i, { error = "e" }))
  end
end

describe("a bound of dead letters", function()
  it("lets the oldest go in the commit that buries", function()
    fresh { items = 3 }
    bury(3)
    assert.same({ 1, 2, 3 }, left())
    bury(2, 4)
    assert.same({ 3, 4, 5 }, left())
    assert.same({ 3, 2 }, { t.q:stats().dead, t.q:stats().dead_dropped })
    assert.is_nil(t.q.dead:get(1))
    assert.equal(6, assert(t.q.dead:push "the next number"))
  end)

  it("counts bytes, of large payloads too, and leaves the newest", function()
    fresh { bytes = "64KiB" }
    for i = 1, 4 do t.q.dead:push(("x"):rep(30000) .. i) end
    assert.equal(2, t.q.dead:count())
    local bytes = t.q:stats().dead_bytes
    assert.is_true(bytes > 60000 and bytes <= 65536)
    t.q.dead:push(("x"):rep(200000))
    assert.equal(1, t.q.dead:count())
    assert.is_true(t.q:stats().dead_bytes > 200000)
    t.q.dead:push "small"
    assert.same({ "small" }, left())
  end)

  it("holds for items that die in work, overflow and by their TTL", function()
    fresh({ items = 2 }, { max_items = 3, overflow = "dead", ttl = 10 })
    for i = 1, 5 do assert(t.q:push(i)) end
    assert.same({ 4, 5 }, left())
    t.q:work(function() return respool.dead() end, { limit = 1 })
    assert.same({ 5, 1 }, left())
    t.store:advance(11)
    assert.equal(2, t.store:maintain().expired)
    assert.same({ 2, 3 }, left())
    assert.equal(3, t.q:stats().dead_dropped)
  end)

  it("is of the queue's own DLQ, whatever others bury there", function()
    fresh { items = 1 }
    t.q:push_many { 1, 2, 3 }
    t.q:work(function() return respool.dead { dlq = "other" } end,
             { limit = 3 })
    assert.equal(3, t.store:dead "other":count())
    local other = assert(t.store:queue("guest", { dead_letter = "orders" }))
    for i = 1, 3 do other.dead:push(i) end
    assert.same({ 1, 2, 3 }, left())
    bury(1, 4)
    assert.same({ 4 }, left())
  end)

  it("may be over when it is lowered: maintenance removes the rest", function()
    fresh(nil)
    bury(100)
    t.store:queue("orders", { keep_dead = { items = 10 } })
    bury(1, 101)
    assert.equal(101 - 17, t.q.dead:count())
    assert.equal(101 - 17 - 10, t.store:maintain().dead_letters)
    assert.same({ 92, 93, 94, 95, 96, 97, 98, 99, 100, 101 }, left())
    assert.equal(91, t.q:stats().dead_dropped)
    assert.equal(0, t.store:maintain().dead_letters)
  end)

  it("and an age are kept together", function()
    fresh { seconds = 60, items = 2 }
    bury(1)
    t.store:advance(40)
    bury(1, 2)
    t.store:advance(30)
    assert.equal(1, t.store:maintain().dead_letters)
    assert.same({ 2 }, left())
    assert.equal(0, t.q:stats().dead_dropped)
  end)

  it("counts right whatever takes dead letters out", function()
    fresh { bytes = "1MiB" }
    for i = 1, 9 do t.q.dead:push(("x"):rep(i * 5000)) end
    assert(t.q.dead:retry(1))
    assert(t.q.dead:retry(9))
    assert(t.q.dead:remove(8))
    assert.equal(6, assert(t.q.dead:replay()).moved)
    assert.equal(0, t.q:stats().dead_bytes)
    bury(5)
    assert.is_true(t.q:stats().dead_bytes > 0)
    assert.equal(5, t.q.dead:purge())
    assert.equal(0, t.q:stats().dead_bytes)
  end)

  it("is told to the log when it took something", function()
    local said = {}
    t = queue_of.new({ keep_dead = { items = 2 } }, {
      log = function(level, message, f)
        if f.removed then
          said[#said + 1] = { level, message, f.queue, f.dlq, f.removed }
        end
      end,
    })
    bury(5)
    t.store:close()
    assert.same({ { "warn", "the oldest dead letters were removed: the DLQ is "
      .. "full", "orders", "orders", 3 } }, said)
  end)

  -- The console closes a queue's handle behind each request.
  it("passes over queues whose handles are closed", function()
    fresh { items = 2 }
    assert(t.store:queue("orders", { create = false })).handle:close()
    assert.is_true(t.store:close())
  end)

  it("is a metric", function()
    fresh { items = 2 }
    bury(5)
    local text = t.store:metrics()
    assert.matches('respool_dead_dropped_total{queue="orders"} 3\n', text, 1,
                   true)
    assert.matches('\nrespool_dead_bytes{queue="orders"} [1-9]%d*\n', text)
  end)
end)

describe("the option keep_dead", function()
  it("is told in its own words", function()
    fresh(nil)
    local huge = math.huge
    for _, case in ipairs {
      { 60, 60 }, { "1h", 3600 }, { huge, huge },
      { "1KiB", { bytes = 1024 } }, { { items = 5 }, { items = 5 } },
      { { items = huge }, huge }, { { seconds = 5 }, 5 },
      { { seconds = "1m", items = 7, bytes = "2KiB" },
        { seconds = 60, items = 7, bytes = 2048 } },
    } do
      local given, told = case[1], case[2]
      assert.same(told,
                  assert(t.store:queue("orders", { keep_dead = given }))
                    :config().keep_dead)
    end
  end)
end)
