-- SPDX-License-Identifier: MIT
--
-- Trends: what became of queues between samples, by the minute, the hour and
-- the day.

local helper = require "spec.helper"

local it = helper.checked(it)

local MINUTE, HOUR, DAY = 60, 3600, 86400

local store, q, midnight

-- A store at the beginning of a day.
before_each(function()
  store = helper.store()
  store:advance(DAY - store:now() % DAY)
  midnight = store:now()
  q = assert(store:queue "mails")
end)

-- Pushes some, takes a sample, and goes to the next minute.
local function minute(pushes, then_advance)
  for i = 1, pushes or 0 do assert(q:push(i)) end
  assert(store:maintain())
  store:advance(then_advance or MINUTE)
end

-- The figures of a trend, by name, a list for each sample.
local function course(names, given)
  local rows = {}
  for i, t in ipairs(assert(store:trend(given))) do
    local row = {}
    for k, name in ipairs(names) do row[k] = t[name] end
    rows[i] = row
  end
  return rows
end

-- When it was, in minutes of the day.
local function minutes(t)
  return (t - midnight) / MINUTE
end

describe("store:trend", function()
  it("has what was counted between two samples", function()
    minute(2)
    minute(3)
    local batch = assert(q:take { limit = 4 })
    batch:done()
    batch:close()
    minute(1)
    assert.same({ { 3, 0, 5 }, { 1, 4, 2 } },
                course { "pushed", "done", "ready" })
    local last = store:trend { queue = "mails" }[2]
    assert.same({ 1, 2 }, { minutes(last.since), minutes(last.at) })
  end)

  it("goes over what nobody sampled", function()
    minute(1, 5 * MINUTE)
    minute(2, 7 * MINUTE)
    local list = store:trend()
    assert.equal(1, #list)
    assert.same({ 2, 0, 5 }, { list[1].pushed, minutes(list[1].since),
                               minutes(list[1].at) })
  end)

  it("tells queues apart, and leaves out those that did not change", function()
    local other = assert(store:queue "orders")
    minute(1)
    assert(other:push(1))
    minute(0)
    minute(1)
    assert.same({ { "orders", 1 }, { "mails", 1 } },
                course { "queue", "pushed" })
    assert.same({ { "mails", 0 }, { "mails", 1 } },
                course({ "queue", "pushed" }, { queue = "mails" }))
    assert.same({}, store:trend { queue = "none" })
  end)

  it("has the times that items waited and handlers took", function()
    minute(4, 2 * MINUTE)
    assert(q:work(function() store:advance(0.02) end,
                  { stop_when_empty = true, batch = 1 }))
    store:advance(MINUTE)
    minute(0)
    local list = store:trend()
    local t = list[#list]
    assert.is_true(t.wait_p50 > 65 and t.wait_p50 < 132)
    assert.is_true(t.handle_p95 > 0.016 and t.handle_p95 <= 0.032)
    minute(1)
    list = store:trend()
    assert.is_nil(list[#list].handle_p50)
  end)

  it("has the age of the oldest item", function()
    minute(1)
    minute(1)
    assert.equal(MINUTE, store:trend()[1].oldest_age)
  end)

  it("goes over the end of an hour and of a day", function()
    store:advance(DAY - 2 * MINUTE)
    for i = 1, 4 do minute(i) end
    assert.same({ { 2 }, { 3 }, { 4 } }, course { "pushed" })
    assert.same({ { 5 } }, course({ "pushed" }, { span = "1h" }))
    assert.same({ { 5 } }, course({ "pushed" }, { span = "1d" }))
  end)

  it("keeps minutes for a day, hours for a month", function()
    for i = 0, 26 do minute(i, HOUR) end
    assert.equal(23, #store:trend())
    assert.equal(26, #store:trend { span = "1h" })
    local sum = 0
    for _, t in ipairs(store:trend { span = "1h" }) do sum = sum + t.pushed end
    assert.equal(26 * 27 / 2, sum)
    store:advance(40 * DAY)
    minute(1)
    assert.same({ {}, {}, {} }, { store:trend(), store:trend { span = "1h" },
                                  store:trend { span = "1d" } })
  end)

  it("reads a part", function()
    for i = 1, 6 do minute(i) end
    assert.same({ { 3 }, { 4 } }, course({ "pushed" }, {
      since = midnight + 2 * MINUTE, before = midnight + 4 * MINUTE,
    }))
  end)

  -- Samples were chosen by their minutes.
  it("reads a part that begins and ends within a minute", function()
    store:advance(30)
    for i = 1, 6 do minute(i) end
    local function part(from, upto)
      return course({ "pushed" }, { since = midnight + from * MINUTE,
                                    before = midnight + upto * MINUTE })
    end
    assert.same({ { 3 }, { 4 } }, part(2.1, 4.1))
    assert.same({ { 4 }, { 5 } }, part(2.6, 4.6))
    assert.same({ { 3 } }, part(2.5, 3.5))
  end)

  it("begins anew with a queue that was dropped and made anew", function()
    minute(9)
    assert(store:drop_queue "mails")
    q = assert(store:queue "mails")
    minute(2)
    assert.same({ { 2 } }, course { "pushed" })
  end)

  it("takes no sample where nothing changed", function()
    minute(1)
    local commits = store:stats().commits.count
    for _ = 1, 3 do assert(store.handle:sample()) store:advance(MINUTE) end
    assert.equal(commits, store:stats().commits.count)
    minute(1)
    assert.same({ { 1, 0 } }, { { store:trend()[1].pushed,
                                  minutes(store:trend()[1].since) } })
  end)

  it("is one sample a minute, however many processes take them", function()
    local other = assert(helper.open(store.path, { clock = "manual" }))
    other:advance(store:now() - other:now())
    minute(1, 0)
    assert(q:push(1))
    assert(other.handle:sample())
    store:advance(MINUTE)
    minute(1)
    assert.same({ { 2 } }, course { "pushed" })
    other:close()
  end)

  it("is taken by who works, from its second minute on", function()
    minute(1)
    local n = 0
    assert(q:push(1))
    assert(q:work(function()
      n = n + 1
      store:advance(50)
      if n < 4 then assert(q:push(1)) end
    end, { stop_when_empty = true, batch = 1 }))
    assert.is_true(#store:trend() >= 1)
  end)

  it("refuses what is no span", function()
    for _, span in ipairs { "2m", 0, -1, "x" } do
      assert.error_matches(function() store:trend { span = span } end,
                           "option 'span' must be \"1m\", \"1h\" or \"1d\"")
    end
    assert.error_matches(function() store:trend { queues = "x" } end, "queues")
  end)
end)
