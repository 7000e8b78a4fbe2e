-- SPDX-License-Identifier: MIT
--
-- Care: one call that does what is to be done, bounded in time, and reports
-- it.

local helper = require "spec.helper"
local respool = require "respool"
local range = helper.range

local store

before_each(function()
  store = helper.store()
end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

local NOTHING = {
  expired = 0, dead_letters = 0, history = 0, windows = 0, readers = 0,
  ticks = 0, replays = 0, more = false,
}

describe("store:maintain", function()
  it("has nothing to do in a store that needs nothing", function()
    store:queue("orders"):push(1)
    assert.same(NOTHING, store:maintain())
  end)

  it("expires what nobody takes", function()
    local q = store:queue("orders", { ttl = 10 })
    q:push_many { 1, 2 }
    q:push(3, { ttl = 60 })
    store:advance(11)
    assert.equal(2, store:maintain().expired)
    assert.equal(2, q.dead:count())
    assert.equal("expired", q.dead:oldest().reason)
    assert.equal(1, q:length().total)
    assert.equal(0, store:maintain().expired)
  end)

  it("removes dead letters older than keep_dead, in every queue's DLQ",
    function()
    for _, name in ipairs { "a", "b" } do
      local q = store:queue(name, { keep_dead = 100 })
      q:push_many { 1, 2 }
      for n = 1, 2 do
        q:work(function() return respool.dead() end, { limit = 1 })
        if n == 1 then store:advance(60) end
      end
      store:advance(20)
    end
    store:advance(25)
    assert.equal(3, store:maintain().dead_letters)
    assert.equal(0, store:queue("a").dead:count())
    assert.equal(1, store:queue("b").dead:count())
  end)

  it("keeps dead letters for ever when not told", function()
    local q = store:queue "orders"
    q:push(1)
    q:work(function() return respool.dead() end, { limit = 1 })
    store:advance(10 * 365 * 86400)
    assert.equal(0, store:maintain().dead_letters)
    assert.equal(1, q.dead:count())
  end)

  it("removes history beyond what is kept", function()
    local q = store:queue("orders", { keep_done = 60 })
    q:push_many(range(2500))
    q:work(function() end, { stop_when_empty = true })
    store:advance(61)
    local maintenance = store:maintain()
    assert.equal(2500, maintenance.history)
    assert.is_false(maintenance.more)
    assert.equal(0, q.history:count())
  end)

  it("closes dedup windows", function()
    local q = store:queue "orders"
    q:push(1, { key = "k", dedup = 60 })
    q:work(function() end, { stop_when_empty = true })
    store:advance(61)
    assert.equal(1, store:maintain().windows)
    assert(q:push(2, { key = "k" }))
  end)

  it("frees the reader slots of dead processes", function()
    store:queue("orders"):push(1)
    local child = helper.spawn([[
      os.execute("exec '" .. arg[1] .. "/spec/reader' '" .. arg[2] .. "'")]],
      os.getenv "RESPOOL_BUILD", store.path)
    child:expect "reading"
    assert.equal(0, store:maintain().readers)
    os.execute("LD_PRELOAD= pkill -KILL -P " .. child.pid)
    child:wait()
    assert.equal(1, store:maintain().readers)
  end)

  it("replays what is due in the background", function()
    local q = store:queue("orders", { max_attempts = 1 })
    q:push_many(range(250))
    q:work(function() error "no" end, { stop_when_empty = true })
    q.dead:replay_every { interval = 60 }
    local maintenance = store:maintain()
    assert.is_true(maintenance.replays >= 3)
    assert.is_false(maintenance.more)
    assert.equal(250, q:length().ready)
    assert.equal(0, store:maintain().replays)
  end)

  it("stops when its time is over, and says that there is more", function()
    -- a commit for each queue: no machine makes all of them in a millisecond
    for i = 1, 100 do
      local q = store:queue("orders-" .. i, { keep_done = 60 })
      q:push_many(range(200))
      q:work(function() end, { stop_when_empty = true, batch = 200 })
    end
    store:advance(61)
    local maintenance = store:maintain { seconds = 0.000001 }
    assert.is_true(maintenance.more)
    assert.is_true(maintenance.history < 20000)
    local rest = store:maintain()
    assert.equal(20000, maintenance.history + rest.history)
    assert.is_false(rest.more)
  end)

  it("runs no replay from within another", function()
    local q = store:queue("orders", { max_attempts = 1 })
    q:push(1)
    q:work(function() error "no" end, { stop_when_empty = true })
    local inner
    q.dead:replay_every { interval = 60, where = function()
      inner = store:maintain()
      return true
    end }
    assert.equal(2, store:maintain().replays)
    assert.equal(0, inner.replays)
  end)

  it("tells the log", function()
    local said = {}
    local other = assert(helper.open(helper.location(), {
      log = function(level, message, fields)
        table.insert(said, { level, message, fields })
      end,
    }))
    other:maintain()
    assert.same({ "debug", "maintained", NOTHING }, said[#said])
  end)

  it("refuses a time that is none", function()
    for _, value in ipairs { 0, -1, "x" } do
      assert.error_matches(function() store:maintain { seconds = value } end,
        "store:maintain: option 'seconds' must be seconds or a time")
    end
    assert.error_matches(function() store:maintain { x = 1 } end,
                         "store:maintain: unknown option 'x'")
  end)
end)
