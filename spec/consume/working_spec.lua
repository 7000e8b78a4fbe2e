-- SPDX-License-Identifier: MIT
--
-- Workers: the rows that say who works on a queue and what they hold, requests
-- to stop, and what the dead leave.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local core = require "respool.core"

local t, store, q

before_each(function()
  t = queue_of.new()
  store, q = t.store, t.q
end)

local it = helper.checked(it)

local function workers()
  return assert(store:workers())
end

describe("a worker", function()
  it("is listed while it works, with what it has in hand", function()
    q:push_many { "a", "b", "c" }
    local seen
    assert(q:work(function()
      seen = seen or workers()
    end, { batch = 3, name = "mailer", stop_when_empty = true }))
    local w = seen[1]
    assert.equal(1, #seen)
    assert.same({ "mailer", "orders", "running", 3 },
                { w.name, w.queue, w.state, w.leased })
    assert.same({ { id = 1, items = 3, expires_at = store:now() + 30 } },
                w.leases)
    assert.equal((core.process.self()), w.pid)
    assert.equal(store:now(), w.started_at)
    assert.same({}, workers())
  end)

  it("has the name of its queue when it is given none", function()
    q:push "a"
    local name
    q:work(function() name = workers()[1].name end,
           { stop_when_empty = true })
    assert.equal("orders", name)
  end)

  it("owns what it leases, by get, each and in the handler's item", function()
    q:push_many { "a", "b" }
    local got, listed
    q:work(function()
      got = q:get(1).worker
      for item in q:each { state = "leased" } do listed = item.worker end
    end, { limit = 1, name = "mailer" })
    assert.same({ "mailer", (core.process.self()) }, { got.name, got.pid })
    assert.same(got, listed)
    assert.is_nil(q:get(2).worker)
  end)

  it("is nobody for a take by hand", function()
    q:push "a"
    local batch = q:take()
    assert.is_nil(q:get(1).worker)
    assert.equal("leased", q:get(1).state)
    batch:release()
  end)

  it("is one for all loops of a handle", function()
    q:push_many { "a", "b" }
    local inner
    q:work(function(payload)
      if payload == "a" then
        q:work(function() inner = workers() end, { limit = 1 })
        assert.equal(1, #workers())
      end
    end, { limit = 1 })
    assert.equal(1, #inner)
    assert.same({}, workers())
  end)

  it("stops when it is asked to, and the next one does not", function()
    for i = 1, 5 do q:push(i) end
    local done, stopping = {}, nil
    local function work(stop)
      assert(q:work(function(payload, item)
        done[#done + 1] = payload
        if not stop then return end
        assert(store:stop_worker(workers()[1].number))
        assert.equal("stopping", workers()[1].state)
        store:advance(2) -- it looks once a second
        stopping = item:stopping()
      end, { batch = 1, stop_when_empty = true }))
    end
    work(true)
    assert.same({ 1 }, done)
    assert.is_false(stopping) -- it looks between batches
    work(false)
    assert.same({ 1, 2, 3, 4, 5 }, done)
  end)

  it("that is not there cannot be asked", function()
    local ok, message, code = store:stop_worker(7)
    assert.is_nil(ok)
    assert.equal("NOT_FOUND", code)
    assert.matches("no worker 7", message)
    assert.has_error(function() store:stop_worker(0) end)
  end)

  it("is there again when others took it for gone", function()
    q:push_many { 1, 2, 3 }
    local numbers = {}
    q:work(function()
      local w = workers()[1]
      numbers[#numbers + 1] = w and w.number or 0
      if #numbers == 1 then assert(store.handle:worker_end(w.number)) end
      store:advance(61)
    end, { batch = 1, stop_when_empty = true })
    assert.same({ 1, 2, 2 }, numbers)
  end)
end)

describe("a worker that has died", function()
  -- A row as one has it whose process has ended, and a lease of its own.
  local function dead_worker()
    local _, namespace = core.process.self()
    local boot = assert(io.open "/proc/sys/kernel/random/boot_id"):read "*l"
    local number = assert(store.handle:worker_start("mailer", "orders", "here",
      ("%s %.0f 4194305 1 x 1"):format(boot, namespace), 4194305))
    q.worker = { number = number }
    local batch = q:take { limit = 2 }
    q.worker = nil
    return batch, number
  end

  before_each(function() q:push_many { "a", "b", "c" } end)

  it("is shown as gone", function()
    dead_worker()
    local w = workers()[1]
    assert.same({ "gone", 2 }, { w.state, w.leased })
  end)

  it("gives back what it held at the next maintenance", function()
    local batch = dead_worker()
    assert(store:maintain())
    assert.same({}, workers())
    assert.equal(0, q:length().leased)
    local again = q:take { limit = 3 }
    assert.equal(1, again[1].id)
    assert.equal(1, again[1].crashes) -- it is blamed as ever
    batch:done()
    local ok, _, code = batch:settle()
    assert.same({ nil, "LEASE_LOST" }, { ok, code })
  end)

  it("gives it back to others who work, within a second", function()
    dead_worker()
    local done = {}
    q:work(function(payload) done[#done + 1] = payload end,
           { batch = 1, stop_when_empty = true })
    table.sort(done)
    assert.same({ "a", "b", "c" }, done)
    assert.equal(0, q:length().leased)
  end)

  it("takes nothing from those that live", function()
    dead_worker()
    local mine = q:take()
    assert.equal(3, mine[1].id)
    assert(store:maintain())
    assert.equal(1, q:length().leased)
    mine:done()
    assert(mine:settle())
  end)

  it("is not known to be dead where its process cannot be seen", function()
    assert(store.handle:worker_start("far", "orders", "there",
                                     "other 1 5 6 x 1", 5))
    assert(store:maintain())
    assert.equal("running", workers()[1].state)
    store:advance(601)
    assert.equal("gone", workers()[1].state)
    assert(store:maintain())
    assert.same({}, workers())
  end)
end)

describe("a row of a worker", function()
  it("has a number that no other has", function()
    local handle = store.handle
    local function start() return handle:worker_start("w", "q", "h", "", 1) end
    assert.same({ 1, 2, 3 }, { start(), start(), start() })
    assert.equal(0, handle:worker_end(2))
    assert.equal(4, start())
    local ok, _, code = handle:worker_end(2)
    assert.same({ nil, "NOT_FOUND" }, { ok, code })
    ok, _, code = handle:worker_end(2, true)
    assert.same({ nil, "NOT_FOUND" }, { ok, code })
  end)

  it("has a number that none had before", function()
    local handle = store.handle
    local function start() return handle:worker_start("w", "q", "h", "", 1) end
    assert.equal(1, start())
    assert.equal(0, handle:worker_end(1))
    assert.equal(2, start())
    local ok, _, code = handle:worker_seen(1)
    assert.same({ nil, "NOT_FOUND" }, { ok, code })
  end)

  it("has a number that a lease can bear", function()
    q:push "a"
    q.worker = { number = 1048576 }
    assert.error_matches(function() q:take() end, "worker")
    q.worker = { number = 1048575 }
    assert.equal(1048575, assert(q:take())[1].worker)
    q.worker = nil
  end)

  it("is not hindered by a queue that is gone", function()
    assert(store.handle:worker_start("w", "nowhere", "h", "", 1))
    assert.equal(0, workers()[1].leased)
    assert(store:maintain())
    assert.same({}, workers())
  end)
end)
