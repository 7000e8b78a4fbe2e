-- SPDX-License-Identifier: MIT
--
-- Schedules: items pushed at the ticks of a cron expression.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local payloads = helper.payloads

local MINUTE, HOUR, DAY = 60, 3600, 86400

local t, start

before_each(function()
  t = queue_of.new()
  start = math.ceil(t.store:now() / DAY) * DAY -- a midnight in UTC
  t.store:advance(start - t.store:now())
end)

local it = helper.checked(it)

local function schedule(given)
  local o = { cron = "0 3 * * *", queue = t.q, payload = "go" }
  for name, value in pairs(given or {}) do o[name] = value end
  return assert(t.store:schedule("nightly", o))
end

local function ticks()
  local list = {}
  for item in t.q:each() do list[#list + 1] = item.headers.at - start end
  return list
end

local function later(seconds)
  t.store:advance(seconds)
  return assert(t.store:maintain()).ticks
end

describe("a schedule", function()
  it("says when it is due", function()
    local s = schedule { timezone = "Europe/Berlin", missed = "all",
                         priority = 3 }
    assert.same({ "nightly", "0 3 * * *", "Europe/Berlin", "orders", "go",
                  "all", false, 0, 0, 3 },
                { s.name, s.cron, s.timezone, s.queue, s.payload, s.missed,
                  s.paused, s.fired, s.missed_ticks, s.priority })
    assert.is_nil(s.last_at)
    local hour = (s.next_at - start) / HOUR
    assert.is_true(hour == 1 or hour == 2) -- by winter and summer time
  end)

  it("pushes an item at each tick, which says which", function()
    schedule()
    assert.equal(0, later(3 * HOUR - 1))
    assert.equal(1, later(1))
    assert.equal(0, later(0))
    local item = t.q:peek()[1]
    assert.same({ "go", { schedule = "nightly", at = start + 3 * HOUR } },
                { item.payload, item.headers })
    local s = t.store:schedules()[1]
    assert.same({ start + 27 * HOUR, start + 3 * HOUR, 1, 0 },
                { s.next_at, s.last_at, s.fired, s.missed_ticks })
  end)

  it("is stored, and fired by any handle", function()
    if helper.engine ~= "lmdb" then return end
    local path = t.store.path
    schedule()
    local other = assert(helper.open(path, { clock = "manual" }))
    other:advance(start + 3 * HOUR - other:now())
    assert.equal(1, other:maintain().ticks)
    assert.equal(0, later(3 * HOUR))
    assert.same({ "go" }, payloads(t.q))
  end)

  it("makes up what was missed once", function()
    schedule()
    assert.equal(1, later(5 * DAY))
    assert.same({ 4 * DAY + 3 * HOUR }, ticks())
    assert.equal(5, t.store:schedules()[1].missed_ticks)
  end)

  it("makes up all of it", function()
    schedule { missed = "all" }
    assert.equal(5, later(5 * DAY))
    local list = ticks()
    assert.same({ 3 * HOUR, 4 * DAY + 3 * HOUR }, { list[1], list[5] })
    local s = t.store:schedules()[1]
    assert.same({ 5, 5 }, { s.fired, s.missed_ticks })
  end)

  it("makes up nothing", function()
    schedule { missed = "none" }
    assert.equal(0, later(5 * DAY))
    assert.equal(1, later(3 * HOUR + 30)) -- a minute late is not missed
    local s = t.store:schedules()[1]
    assert.same({ 1, 5, start + 6 * DAY + 3 * HOUR },
                { s.fired, s.missed_ticks, s.next_at })
  end)

  it("leaves out hours that are not, and has the doubled ones once", function()
    local spring, autumn = 1774742400, 1792886400 -- 29 March, 25 October 2026
    t.store:advance(spring - t.store:now())
    schedule { cron = "30 2 * * *", timezone = "Europe/Berlin",
               missed = "all" }
    later(DAY)
    assert.same({ spring + HOUR - start }, ticks())
    t.store:advance(autumn - t.store:now() - DAY)
    t.store:maintain()
    t.q:purge()
    later(2 * DAY)
    assert.equal(2, #ticks())
  end)

  it("stays as it is when it is made again", function()
    schedule()
    t.store:advance(HOUR)
    local commits = t.store:stats().last_txn
    assert.equal(start + 3 * HOUR, schedule().next_at)
    if helper.engine == "lmdb" then
      assert.equal(commits, t.store:stats().last_txn)
    end
    assert.equal(start + 3 * HOUR, schedule({ payload = "new" }).next_at)
    assert.equal(start + 2 * HOUR, schedule({ cron = "0 * * * *" }).next_at)
  end)

  it("has no ticks while it is paused", function()
    schedule()
    assert.is_true(t.store:pause_schedule "nightly")
    local s = t.store:schedules()[1]
    assert.same({ true, nil }, { s.paused, s.next_at })
    assert.equal(0, later(2 * DAY))
    assert.is_true(t.store:resume_schedule "nightly")
    assert.equal(0, later(0))
    assert.equal(1, later(3 * HOUR))
    assert.equal(0, t.store:schedules()[1].missed_ticks)
  end)

  it("is run now, and removed", function()
    schedule()
    assert.equal(1, t.store:run_schedule "nightly")
    assert.equal(start + 3 * HOUR, t.store:schedules()[1].next_at)
    assert.is_true(t.store:remove_schedule "nightly")
    assert.same({}, t.store:schedules())
    for _, verb in ipairs { "run", "remove", "pause", "resume" } do
      local ok, message, code = t.store[verb .. "_schedule"](t.store, "nightly")
      assert.is_nil(ok)
      assert.equal("there is no schedule 'nightly'", message)
      assert.equal("NOT_FOUND", code)
    end
  end)

  it("is refused with what is wrong", function()
    local function refused(pattern, given)
      assert.error_matches(function() schedule(given) end, pattern)
    end
    refused("the minute of a cron expression must be of 0 to 59",
            { cron = "60 * * * *" })
    refused("timezone", { timezone = "Europe/Atlantis" })
    refused("option 'missed' must be", { missed = "some" })
    refused("option 'queue' must be a queue or its name", { queue = 1 })
    assert.error_matches(function()
      t.store:schedule("x", { cron = "@daily", queue = t.q })
    end, "store:schedule: option 'payload' is missing")
    local s, message, code = t.store:schedule("x", {
      cron = "@daily", queue = "no such", payload = 1,
    })
    assert.is_nil(s)
    assert.matches("no such", message)
    assert.equal("NOT_FOUND", code)
    assert.same({}, t.store:schedules())
  end)

  it("waits for room in a full queue", function()
    t:queue { max_items = 1 }
    assert(t.q:push "x")
    schedule()
    local errors = {}
    t.store.on_error = function(err) errors[#errors + 1] = err.code end
    assert.equal(0, later(3 * HOUR))
    assert.equal(0, later(1))
    assert.same({ "FULL" }, errors)
    assert(t.q:purge())
    assert.equal(1, later(1))
    assert.same({ "go" }, payloads(t.q))
  end)
end)

describe("a payload made at the tick", function()
  it("is asked of those who have its function", function()
    schedule { payload = function(tick)
      return { name = tick.schedule, at = tick.at - start }
    end }
    assert.equal(1, later(3 * HOUR))
    assert.same({ name = "nightly", at = 3 * HOUR }, t.q:peek()[1].payload)
    assert.is_nil(t.store:schedules()[1].bytes)
    assert.equal(2, t.store:run_schedule "nightly")
  end)

  it("is asked again when the function refuses", function()
    local calls, errors = 0, {}
    t.store.on_error = function(err) errors[#errors + 1] = err.message end
    schedule { payload = function()
      calls = calls + 1
      if calls == 1 then error "not yet" end
      return "made"
    end }
    assert.equal(0, later(3 * HOUR))
    assert.equal(1, later(1))
    assert.equal(1, #errors)
    assert.matches("schedule 'nightly': .*not yet", errors[1])
    assert.same({ 3 * HOUR }, ticks())
  end)

  it("is not made by who has no function", function()
    schedule { payload = function() return 1 end }
    t.store.tick_payloads = {}
    assert.equal(0, later(3 * HOUR))
    assert.error_matches(function() t.store:run_schedule "nightly" end,
                         "made by a program at each tick")
  end)
end)

describe("a tick", function()
  it("wakes a take that waits", function()
    schedule()
    local batch = assert(t.q:take { timeout = DAY })
    assert.equal("go", batch:item(1).payload)
    assert.equal(start + 3 * HOUR, t.store:now())
    batch:close()
  end)

  it("wakes work that waits", function()
    schedule { cron = "*/10 * * * *", missed = "all" }
    local seen = {}
    assert(t.q:work(function(_, item)
      seen[#seen + 1] = item.headers.at - start
    end, { limit = 3 }))
    assert.same({ 10 * MINUTE, 20 * MINUTE, 30 * MINUTE }, seen)
  end)
end)
