-- SPDX-License-Identifier: MIT
--
-- respool schedule, and schedules in worker scripts, maintain, stats, metrics.

local cli = require "spec.helper.cli"
local helper = require "spec.helper"

local function schedule(action, path, ...)
  return cli.run { "schedule", action, path, ... }
end

local function refused(run, status, pattern)
  cli.assert_refused(run, status, pattern)
end

local path, store

before_each(function()
  path = helper.location()
  store = assert(helper.open(path))
  store:queue "reports"
end)

local function set(...)
  return schedule("set", path, "nightly", "0 3 * * *", "reports",
                  '{"all":true}', ...)
end

describe("respool schedule", function()
  it("makes one, lists it, and removes it", function()
    local run = set("--timezone", "Europe/Berlin", "--missed", "all",
                    "--priority", "4")
    assert.equal(0, run.status)
    assert.matches("^next: %d+%-%d+%-%d+ .*%(in .*%)\n$", run.out)
    local s = store:schedules()[1]
    assert.same({ { all = true }, "Europe/Berlin", "all", 4 },
                { s.payload, s.timezone, s.missed, s.priority })
    run = schedule("list", path)
    assert.matches("NAME +CRON +TIMEZONE +QUEUE +NEXT +LAST +FIRED +MISSED\n",
                   run.out)
    assert.matches("\nnightly +0 3 %* %* %* +Europe/Berlin +reports +%d.* "
                   .. "+0 +0", run.out)
    assert.equal("1 removed\n", schedule("remove", path, "nightly").out)
    assert.equal("no schedules\n", schedule("list", path).out)
  end)

  it("gives them as JSON", function()
    set()
    local s = cli.values(schedule("list", path, "--json"))[1]
    assert.same({ "nightly", "one", false, { all = true } },
                { s.name, s.missed, s.paused, s.payload })
    local stats = cli.values(cli.run { "stats", path, "--json" })[1]
    assert.equal(s.next_at, stats.schedules.nightly.next_at)
    local metrics = cli.run({ "metrics", path }).out
    assert.matches(
      'respool_schedule_next_timestamp_seconds{schedule="nightly"}', metrics,
      1, true)
    assert.matches('respool_schedule_missed_total{schedule="nightly"} 0',
                   metrics, 1, true)
  end)

  it("runs, pauses and resumes them", function()
    set()
    assert.equal("1 pushed\n", schedule("run", path, "nightly").out)
    assert.equal(1, store:queue("reports"):length().ready)
    assert.equal("1 paused\n", schedule("pause", path, "nightly").out)
    assert.matches(" paused ", schedule("list", path).out)
    assert.equal("1 resumed\n", schedule("resume", path, "nightly").out)
    refused(schedule("run", path, "weekly"), 1,
            "there is no schedule 'weekly'")
  end)

  it("says in a line what is wrong, and stores nothing", function()
    refused(schedule("set", path, "x", "99 * * * *", "reports", "1"), 2,
            "the minute of a cron expression must be")
    refused(set("--timezone", "Europe/Atlantis"), 2, "timezone")
    refused(schedule("set", path, "x", "@daily", "reports", "{"), 2,
            "cannot be read as JSON")
    refused(schedule("set", path, "x", "@daily", "repor", "1"), 1,
            "there is no queue 'repor'")
    refused(schedule("set", path, "x", "@reboot", "reports", "1"), 2, "cron")
    assert.same({}, store:schedules())
  end)
end)

describe("a worker script", function()
  local function script(text)
    local file = helper.dir() .. "/worker.lua"
    helper.write(file, text)
    return file
  end

  it("makes its schedules", function()
    local file = script [[
      return { queue = "reports", handle = function() end, schedules = {
        nightly = { cron = "@daily", payload = function(tick) return tick end },
        hourly = { cron = "@hourly", payload = "go", missed = "none" },
      } }]]
    assert.equal(0, cli.run({ "work", path, file, "--until-empty" }).status)
    local all = store:schedules()
    assert.same({ "hourly", "nightly" }, { all[1].name, all[2].name })
    assert.same({ "go", "reports" }, { all[1].payload, all[1].queue })
    assert.is_nil(all[2].bytes)
    refused(schedule("run", path, "nightly"), 1, "made by a program")
  end)

  it("is refused when they are wrong", function()
    local function work(text)
      return cli.run { "work", path, script(text) }
    end
    refused(work [[return { queue = "reports", handle = print,
      schedules = { "x" } }]], 2, "'schedules' must be tables by name")
    refused(work [[return { queue = "reports", handle = print,
      schedules = { x = { cron = "@daily" } } }]], 2,
      "option 'payload' is missing")
    refused(work [[return { queue = "reports", handle = print,
      schedules = { x = { cron = "61 * * * *", payload = 1 } } }]], 2,
      "the minute")
  end)
end)
