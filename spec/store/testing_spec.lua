-- SPDX-License-Identifier: MIT
--
-- respool.testing: a kit for the tests of programs that use queues.

local respool = require "respool"
local testing = require "respool.testing"

local store, q

before_each(function()
  store = testing.store()
  q = assert(store:queue("mails", { keep_done = "1h" }))
end)

after_each(function()
  store:close()
end)

describe("testing.store", function()
  it("keeps nothing, and its time stands still", function()
    assert.equal(":memory:", store.path)
    assert.equal(store:now(), store:now())
    store:advance(5)
    local other = testing.store()
    assert.same({}, other:queues())
    other:close()
  end)

  it("has the same chances in each run", function()
    local function due()
      local s = testing.store()
      local queue = s:queue("q", { retry = respool.backoff.exponential {} })
      queue:push(1)
      queue:work(function() error "x" end, { limit = 1 })
      local at = queue:stats().next_due - s:now()
      s:close()
      return at
    end
    assert.equal(due(), due())
  end)

  it("can log, and refuses what is wrong", function()
    local lines = {}
    local s = testing.store { log = function(_, message)
      lines[#lines + 1] = message
    end }
    s:queue("q"):push(1)
    testing.drain(s:queue "q", function() error "x" end)
    s:close()
    assert.is_true(#lines > 0)
    testing.store({ log = false }):close()
    assert.error_matches(function() testing.store { seeds = 1 } end,
                         "testing.store: unknown option 'seeds'")
  end)
end)

describe("testing.drain", function()
  it("works until nothing is left, retries among it", function()
    q:push_many { 1, 2, 3 }
    local calls, before = 0, store:now()
    local counts = testing.drain(q, function(n)
      calls = calls + 1
      if n == 2 then error "never" end
    end)
    assert.equal(2 + 5, calls)
    assert.same({ 2, 5 }, { counts.done, counts.failed })
    assert.is_true(store:now() > before)
    assert.same({ ready = {}, leased = {}, scheduled = {}, retrying = {},
                  dead = { 2 }, done = { 1, 3 }, cancelled = {} },
                testing.contents(q))
  end)

  it("leaves what is scheduled, or works on that, too", function()
    q:push("later", { delay = 3600 })
    q:push("latest", { delay = 7200 })
    local function no() end
    assert.equal(0, testing.drain(q, no).done)
    assert.equal(2, testing.drain(q, no, { scheduled = true }).done)
  end)

  it("wants a clock that is moved by hand", function()
    local s = respool.open(":memory:", { log = false })
    assert.error_matches(function() testing.drain(s:queue "q", print) end,
                         "clock is not moved by hand")
    s:close()
    assert.error_matches(function() testing.drain("q", print) end,
                         "bad argument #1 to 'drain'")
  end)
end)

describe("testing.run_schedules", function()
  it("fires each tick at its time, up to a moment", function()
    local start = math.ceil(store:now() / 86400) * 86400
    store:advance(start - store:now())
    local made = {}
    store:schedule("hourly", { cron = "@hourly", queue = q, payload = "go" })
    store:schedule("noon", { cron = "0 12 * * *", queue = q,
                             payload = function(tick)
                               made[#made + 1] = tick.at - start
                               return "lunch"
                             end })
    assert.equal(25, testing.run_schedules(store, start + 86400))
    assert.same({ 43200 }, made)
    assert.equal(start + 86400, store:now())
    for _, s in ipairs(store:schedules()) do
      assert.equal(0, s.missed_ticks)
    end
    assert.equal(25, #testing.contents(q).ready)
  end)
end)

describe("testing.contents", function()
  it("says what there is", function()
    q:push "a"
    q:push("b", { delay = 60 })
    q:push "c"
    local batch = q:take()
    assert.same({ ready = { "c" }, leased = { "a" }, scheduled = { "b" },
                  retrying = {}, dead = {}, done = {}, cancelled = {} },
                testing.contents(q))
    batch:item(1):retry()
    batch:settle()
    assert.same({ "a" }, testing.contents(q).retrying)
    q.dead:push("d", { error = "x" })
    assert.same({ "d" }, testing.contents(q).dead)
  end)
end)
