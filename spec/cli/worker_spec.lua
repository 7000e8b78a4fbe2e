-- SPDX-License-Identifier: MIT
--
-- respool worker, and workers in get, ls, stats, metrics and the console.

local cli = require "spec.helper.cli"
local console_of = require "spec.helper.console"
local helper = require "spec.helper"

local path, store, q

before_each(function()
  path = helper.location()
  store = helper.open(path)
  q = assert(store:queue "mails")
  q:push_many { "a", "b" }
end)

local function worker(action, ...)
  return cli.run { "worker", action, path, ... }
end

-- Calls fn() while a worker has both items in hand.
local function at_work(fn)
  local called
  assert(q:work(function(_, item)
    called = called or fn(item) or true
  end, { batch = 2, name = "mailer", stop_when_empty = true }))
  assert.is_true(called)
end

describe("respool worker", function()
  it("lists them", function()
    at_work(function()
      assert.matches("1 +mailer +mails +running +%S+ +%d+ +%S+ +%S+ +2\n",
                     worker("list").out)
      local w = cli.values(worker("list", "--json"))[1]
      assert.same({ "mailer", 2, 1 }, { w.name, w.leased, w.leases[1].id })
    end)
    assert.equal("no workers\n", worker("list").out)
  end)

  it("shows the progress that was reported last", function()
    at_work(function(item)
      assert(item:progress(0.4, "two of five"))
      assert.matches("2 +item 1: 40 %%, two of five, %S+ ago\n",
                     worker("list").out)
      assert.matches("progress +40 %%, two of five",
                     cli.run({ "get", path, "mails", "1" }).out)
      assert.matches("PROGRESS.*40 %%, two of five",
                     cli.run({ "ls", path, "mails" }).out)
      local w = cli.values(worker("list", "--json"))[1]
      assert.equal(0.4, w.leases[1].progress.done)
    end)
  end)

  it("writes the leases as an array in JSON, also where there are none",
     function()
    assert(store.handle:worker_start("idle", "mails", "here", "", 1))
    assert.matches('"leases":%[%]', worker("list", "--json").out)
    assert.matches('"leases":%[%]', cli.run { "stats", path, "--json" }.out)
  end)

  it("asks them to stop", function()
    at_work(function()
      assert.equal("1 asked to stop\n", worker("stop", "1").out)
      assert.matches(" stopping ", worker("list").out)
    end)
    local run = worker("stop", "1")
    assert.equal(1, run.status)
    assert.matches("there is no worker 1", run.err)
  end)

  it("is who get, ls and stats say leases items", function()
    at_work(function()
      assert.matches("worker +mailer, pid %d+ on ",
                     cli.run { "get", path, "mails", "1" }.out)
      assert.matches("WORKER +PAYLOAD\n.* mailer, pid ",
                     cli.run { "ls", path, "mails" }.out)
      local item = cli.values(cli.run { "get", path, "mails", "2",
                                        "--json" })[1]
      assert.same({ 1, "mailer" }, { item.worker.number, item.worker.name })
      assert.matches("workers\nmailer +running, pid ",
                     cli.run { "stats", path, "mails" }.out)
      assert.matches('\nrespool_workers{queue="mails"} 1\n',
                     cli.run { "metrics", path }.out)
    end)
    assert.is_nil(cli.run { "ls", path, "mails" }.out:find "WORKER")
    assert.matches('\nrespool_workers{queue="mails"} 0\n',
                   cli.run { "metrics", path }.out)
  end)
end)

describe("the console", function()
  it("lists workers and asks them to stop", function()
    local console = console_of.start(path, "--writable")
    at_work(function()
      local w = console:get "workers".workers[1]
      assert.same({ "mailer", "running", 2 }, { w.name, w.state, w.leased })
      assert.same({ number = 1, stopping = true },
                  (console:act("POST", "workers/1/stop")))
    end)
    assert.same({}, console:get "workers".workers)
    for _, number in ipairs { "1", "9007199254740991" } do
      local answer, status = console:act("POST",
        ("workers/%s/stop"):format(number))
      assert.same({ 404, "NOT_FOUND" }, { status, answer.error })
    end
  end)
end)
