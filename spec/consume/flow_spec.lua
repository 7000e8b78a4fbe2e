-- SPDX-License-Identifier: MIT
--
-- Rates and breakers: what bounds the taking from a queue, for all processes.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"

local t

before_each(function() t = queue_of.new() end)

local it = helper.checked(it)

local function take(n) return t:done(n) end

local function push(n) t:push_numbers(n) end

local function stats() return assert(t.q:stats()) end

local function near(expected, n)
  assert.near(expected, n, 0.0015)
end

describe("a rate", function()
  local function rated(rate)
    t:queue { rate = rate }
  end

  it("hands out its burst, then as many as its time has brought", function()
    rated { items = 10, per = 1, burst = 5 }
    push(100)
    assert.equal(5, #take(100))
    assert.equal(0, #take(100))
    t.store:advance(0.1)
    assert.equal(1, #take(100))
    t.store:advance(0.35)
    assert.equal(3, #take(100))
    t.store:advance(0.05)
    assert.equal(1, #take(100))
    t.store:advance(60)
    assert.equal(5, #take(100))
  end)

  it("has the burst of one period where none is given", function()
    rated { items = 7, per = "1m" }
    push(20)
    assert.equal(7, #take(20))
    assert.same({ items = 7, per = 60, burst = 7 }, t.q:config().rate)
  end)

  it("is exact over a long time and any number of handles", function()
    rated { items = 100, per = 1, burst = 10 }
    push(1200)
    local other = assert(t.store:queue "orders")
    local mine, n = t.q, 0
    for i = 1, 1000 do
      t.q = i % 2 == 0 and mine or other
      n = n + #take(100)
      t.store:advance(0.01)
    end
    t.q = mine
    n = n + #take(100)
    assert.equal(1010, n)
  end)

  it("makes a waiting take sleep until the next", function()
    rated { items = 1, per = 10 }
    push(3)
    take()
    local before = t.store:now()
    local batch = assert(t.q:take { timeout = math.huge })
    near(10, t.store:now() - before)
    batch:done()
    assert(batch:settle())
  end)

  it("paces the work", function()
    rated { items = 10, per = 1 }
    push(50)
    local began, times = t.store:now(), {}
    assert(t.q:work(function()
      times[#times + 1] = t.store:now() - began
    end, { stop_when_empty = true }))
    assert.equal(50, #times)
    for i, time in ipairs(times) do
      local due = math.max(i - 10, 0) / 10
      assert.is_true(time >= due - 0.0015 and time <= due + 0.2, i .. time)
    end
  end)

  it("can be changed at any time, and keeps what it has", function()
    rated { items = 10, per = 1 }
    push(100)
    assert.equal(6, #take(6))
    rated { items = 1000, per = 1 }
    assert.equal(4, #take(100))
    t.store:advance(0.01)
    assert.equal(10, #take(100))
    rated { items = 1, per = 60 }
    t.store:advance(59)
    assert.equal(0, #take(100))
    t.store:advance(1)
    assert.equal(1, #take(100))
    rated(false)
    assert.equal(79, #take(100))
    assert.is_false(t.q:config().rate)
  end)

  it("says how many it allows and when the next", function()
    assert.is_nil(stats().allowed)
    rated { items = 2, per = 1 }
    push(5)
    assert.equal(2, stats().allowed)
    take(2)
    assert.equal(0, stats().allowed)
    near(0.5, stats().allowed_at - t.store:now())
  end)

  it("stays within its numbers", function()
    rated { items = 10^9, per = "30d", burst = 10^9 }
    push(5)
    t.store:advance(10 * 365 * 86400)
    assert.equal(5, #take(100))
    rated { items = 1, per = "30d", burst = 1 }
    push(2)
    take(2)
    near(30 * 86400, stats().allowed_at - t.store:now())
  end)

  it("is refused with one clear line where it is none", function()
    for _, bad in ipairs {
      { items = 0 }, { items = 1.5 }, { per = 1 }, { items = 1, per = 0 },
      { items = 1, per = "31d" }, { items = 1, burst = 0 },
      { items = 10^9 + 1 }, { items = 1, each = 1 }, 5, true, {},
    } do
      assert.error_matches(function()
        t.store:queue("orders", { rate = bad })
      end, "option 'rate' must be { items = 1 to 10%^9")
    end
    assert.is_false(t.q:config().rate)
  end)
end)

describe("a breaker", function()
  local BREAKER = { failures = 3, within = 30, cooldown = 60, probes = 1 }

  local function broken(options)
    local all = { breaker = BREAKER }
    for name, value in pairs(options or {}) do all[name] = value end
    t:queue(all)
  end

  local AWAY = { error = "connection refused", group = "refused", delay = 1 }

  -- Takes n items and gives each of them an outcome by a method of items.
  local function settle(n, verb, given)
    local batch = assert(t.q:take { limit = n })
    for i = 1, #batch do batch[i][verb](batch[i], given) end
    assert(batch:settle())
    return #batch
  end

  local function open()
    broken()
    push(10)
    for _ = 1, 3 do settle(1, "retry", AWAY) end
    assert.equal("open", stats().breaker)
  end

  it("opens after so many outages in a row, and nothing is taken", function()
    broken()
    push(10)
    settle(2, "retry", AWAY)
    assert.equal("closed", stats().breaker)
    assert.equal(2, stats().in_row)
    settle(1, "retry", AWAY)
    assert.equal("open", stats().breaker)
    near(60, stats().breaker_until - t.store:now())
    t.store:advance(59.9)
    assert.equal(0, settle(10, "done"))
  end)

  it("gives what failed in the row its attempt back", function()
    broken()
    push(10)
    settle(1, "retry", AWAY)
    settle(1, "retry", AWAY)
    assert.equal(1, t.q:get(1).attempts)
    settle(2, "retry", AWAY)
    for id = 1, 4 do
      assert.equal(0, t.q:get(id).attempts)
      assert.equal("connection refused", t.q:get(id).error)
    end
  end)

  it("gives an item as many back as it failed in the row", function()
    broken()
    push(1)
    settle(1, "retry", { delay = 0 })
    for _ = 1, 2 do settle(1, "retry", { group = "500", delay = 0 }) end
    assert.equal(3, t.q:get(1).attempts)
    settle(1, "retry", { group = "500", delay = 0 })
    assert.equal(1, t.q:get(1).attempts)
  end)

  it("is not opened by failures with a done between, or too far apart",
     function()
    broken()
    push(10)
    settle(2, "retry", AWAY)
    settle(1, "done")
    settle(2, "retry", AWAY)
    assert.equal("closed", stats().breaker)
    t.store:advance(31)
    settle(2, "retry", AWAY)
    assert.equal("closed", stats().breaker)
    assert.equal(2, stats().in_row)
  end)

  it("is not opened by other failures", function()
    broken()
    push(10)
    settle(5, "retry", { error = "bad address", group = "400" })
    assert.equal("closed", stats().breaker)
    assert.equal(0, stats().outages)
    assert.equal(1, t.q:get(1).attempts)
  end)

  it("is half open after the cooldown: probes go first", function()
    open()
    t.store:advance(60)
    local probe = assert(t.q:take { limit = 10 })
    assert.equal(1, #probe)
    assert.equal("half_open", stats().breaker)
    assert.equal(0, settle(10, "done"))
    probe:done()
    assert(probe:settle())
    assert.equal("closed", stats().breaker)
    assert.equal(9, settle(10, "done"))
  end)

  it("opens again when a probe fails so, which spends nothing", function()
    open()
    for i = 1, 20 do
      t.store:advance(60)
      assert.equal(1, settle(10, "retry", AWAY))
      assert.equal("open", stats().breaker)
      near(60, stats().breaker_until - t.store:now())
      assert.equal(i, stats().openings[1].probes)
    end
    for id = 1, 10 do assert.equal(0, t.q:get(id).attempts) end
    assert.equal(0, stats().dead)
    assert.equal(1, stats().opened)
  end)

  it("lets another probe go when one says nothing of it", function()
    open()
    t.store:advance(60)
    settle(1, "dead", { error = "no such user", group = "404" })
    assert.equal("half_open", stats().breaker)
    settle(1, "release")
    settle(1, "done")
    assert.equal("closed", stats().breaker)
  end)

  it("lets another probe go when the lease of one has run out", function()
    open()
    t.store:advance(60)
    assert.equal(1, #assert(t.q:take { lease = 20 }))
    t.store:advance(19.9)
    assert.equal(0, #assert(t.q:take()))
    t.store:advance(0.2)
    assert.equal(1, settle(10, "done"))
    assert.equal("closed", stats().breaker)
  end)

  it("waits for a probe whose lease is extended", function()
    open()
    t.store:advance(60)
    local probe = assert(t.q:take { lease = 20 })
    t.store:advance(15)
    assert(probe:extend(20))
    t.store:advance(15)
    assert.equal(0, #assert(t.q:take()))
    probe:done()
    assert(probe:settle())
    assert.equal("closed", stats().breaker)
  end)

  it("lets so many probes go at once, of which one that is done closes it",
     function()
    broken { breaker = { failures = 1, cooldown = 10, probes = 3 } }
    push(10)
    settle(1, "retry", AWAY)
    t.store:advance(10)
    local first = assert(t.q:take { limit = 2 })
    local second = assert(t.q:take { limit = 10 })
    assert.equal(2, #first)
    assert.equal(1, #second)
    second:retry(AWAY)
    assert(second:settle())
    assert.equal("open", stats().breaker)
    first:done()
    assert(first:settle())
    assert.equal("closed", stats().breaker)
  end)

  it("is not closed by an item that was begun before it opened", function()
    broken()
    push(10)
    local early = assert(t.q:take())
    settle(3, "retry", AWAY)
    early:done()
    assert(early:settle())
    assert.equal("open", stats().breaker)
  end)

  it("does not let an item die of an outage that others fail of", function()
    broken { max_attempts = 1 }
    push(2)
    settle(2, "retry", AWAY)
    assert.equal(0, stats().dead)
    t.store:advance(1)
    settle(2, "retry", AWAY)
    assert.equal("open", stats().breaker)
    assert.equal(0, stats().dead)
  end)

  it("lets an item die that fails so alone", function()
    broken { max_attempts = 2 }
    push(20)
    for _ = 1, 2 do
      settle(1, "retry", AWAY)
      settle(1, "done")
      t.store:advance(1)
    end
    assert.equal(1, stats().dead)
  end)

  it("knows the last times that it opened", function()
    broken { breaker = { failures = 1, cooldown = 10 } }
    push(20)
    for _ = 1, 10 do
      settle(1, "retry", AWAY)
      t.store:advance(10)
      settle(1, "done")
      t.store:advance(5)
    end
    local openings = stats().openings
    assert.equal(10, stats().opened)
    assert.equal(8, #openings)
    for _, o in ipairs(openings) do
      near(10, o.closed_at - o.opened_at)
      assert.equal(1, o.probes)
      assert.equal("connection refused", o.error)
    end
    assert.is_true(openings[1].opened_at > openings[8].opened_at)
  end)

  it("asks is_outage, where the queue has it", function()
    broken { is_outage = function(err) return err.message == "down" end }
    push(10)
    local n = 0
    assert(t.q:work(function()
      n = n + 1
      error { message = n <= 2 and "refused" or "down", group = "refused" }
    end, { batch = 10, limit = 10, timeout = 0 }))
    assert.equal(5, n) -- three in a row end the batch
    assert.equal("open", stats().breaker)
    assert.equal(1, t.q:get(1).attempts)
    assert.equal(0, t.q:get(3).attempts)
  end)

  it("takes the group's word where is_outage raises", function()
    broken { is_outage = function() error "oops" end }
    push(3)
    assert(t.q:work(function() error { group = "503" } end,
                    { batch = 3, limit = 3, timeout = 0 }))
    assert.equal("open", stats().breaker)
  end)

  it("outlives the process", function()
    open()
    t:reopen()
    assert.equal("open", stats().breaker)
    t.store:advance(60)
    assert.equal(1, settle(10, "done"))
  end)

  it("is gone with the option", function()
    open()
    broken { breaker = false }
    assert.equal("closed", stats().breaker)
    t.store:advance(1)
    assert.equal(10, settle(10, "done"))
    assert.is_false(t.q:config().breaker)
  end)

  it("has defaults", function()
    broken { breaker = true }
    assert.same({ failures = 5, within = 60, cooldown = 60, probes = 1 },
                t.q:config().breaker)
  end)

  it("is refused with one clear line where it is none", function()
    for _, bad in ipairs {
      { failures = 0 }, { failures = 101 }, { cooldown = 0 }, { probes = 0 },
      { within = -1 }, { after = 5 }, 5, "yes",
    } do
      assert.error_matches(function()
        t.store:queue("orders", { breaker = bad })
      end, "option 'breaker' must be true, false, or { failures =")
    end
  end)

  it("tells the log when it opens and closes", function()
    local lines = {}
    local store = helper.open(helper.location(), {
      clock = "manual", log = function(level, message, fields)
        if message:find "breaker" then
          lines[#lines + 1] = { level, message, fields.error, fields.seconds }
        end
      end,
    })
    local q = assert(store:queue("q", { breaker = BREAKER }))
    for i = 1, 5 do q:push(i) end
    local up = false
    assert(q:work(function()
      if not up then error { message = "away", group = "refused" } end
    end, { timeout = 10 }))
    up = true
    store:advance(60)
    assert(q:work(function() end, { stop_when_empty = true }))
    assert.equal("warn", lines[1][1])
    assert.same({ "warn", "the breaker opened", "away" }, lines[1])
    assert.equal("the breaker closed", lines[2][2])
    assert.is_true(lines[2][4] >= 60)
  end)
end)
