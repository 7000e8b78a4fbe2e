-- SPDX-License-Identifier: MIT
--
-- The commands that change a queue as a whole: purge, drop, config; history;
-- and item, which changes items of it.

local cli = require "spec.helper.cli"
local compat = require "respool.support.compat"
local helper = require "spec.helper"

local path, store, q

local function refused(words, status, pattern)
  cli.assert_refused(cli.run(words), status, pattern)
end

before_each(function()
  path = helper.location()
  store = assert(helper.open(path))
  q = assert(store:queue("mails", { keep_done = "1h", lease = 3600 }))
  q:push_many { "a", "b", "c", { to = "ada" } }
  q:take():close()
  assert(q:work(function(_, item) return item:done() end, { limit = 1 }))
end)

describe("respool purge", function()
  it("says what it would do, and does it with --yes", function()
    q:take()
    refused({ "purge", path, "mails" }, 1,
            "this would remove 2 items from queue 'mails'; 1 leased item stay")
    assert.equal(3, q:length().total)
    assert.equal("2 items removed\n",
                 cli.run({ "purge", path, "mails", "--yes" }).out)
    assert.equal(1, q:length().total)
    refused({ "purge", path, "mail" }, 1, "there is no queue 'mail'")
  end)
end)

describe("respool drop", function()
  it("says what it would do, and does it with --yes", function()
    assert(q.dead:push("x", { error = "e" }))
    refused({ "drop", path, "mails" }, 1, "this would remove queue 'mails' "
      .. "with 3 items, 1 finished item and its settings; 1 dead letter stay")
    assert.same({ "mails" }, store:queues())
    assert.equal("queue 'mails' removed\n",
                 cli.run({ "drop", path, "mails", "--yes" }).out)
    assert.same({}, store:queues())
    assert.equal(1, store:dead("mails"):count())
  end)

  it("leaves a queue with leased items", function()
    q:take()
    refused({ "drop", path, "mails", "--yes" }, 1, "leased")
  end)
end)

describe("respool history", function()
  it("lists finished items", function()
    local run = cli.run { "history", path, "mails" }
    assert.matches("^ *ID +DONE +STATE +PRIORITY +ATTEMPTS +DELIVERIES +"
      .. "PAYLOAD\n", run.out)
    assert.matches('\n +1 +%S+ ago +done +0 +0 +2 +"a"\n$', run.out)
    local item = cli.values(cli.run { "history", path, "mails", "--json" })[1]
    assert.same({ 1, "a" }, { item.id, item.payload })
    run = cli.run { "history", path, "mails", "--before", "1h ago" }
    assert.is_nil(run.out:find('"a"', 1, true))
    refused({ "history", path, "mails", "--since", "soon" }, 2, "not a time")
  end)
end)

describe("respool config", function()
  it("shows the settings", function()
    local run = cli.run { "config", path, "mails" }
    assert.matches("\nlease +1h00m\n", run.out)
    assert.matches("\nmax_items +no limit\n", run.out)
    local config = cli.values(cli.run { "config", path, "mails", "--json" })[1]
    assert.equal(3600, config.lease)
  end)

  it("says what it would change, and does it with --yes", function()
    local words = { "config", path, "mails", "max_attempts=10", "lease=5m",
                    "max_items=100", "ordered=true", "overflow=dead",
                    'weights={"9":3}', 'keep_done={"seconds":60,"bytes":1024}' }
    local run = cli.run(words)
    assert.equal(1, run.status)
    assert.matches("this would change .*lease 3600.* %-> 300", run.err)
    assert.matches("max_attempts 5 -> 10", run.err, 1, true)
    assert.equal(5, q:config().max_attempts)
    words[#words + 1] = "--yes"
    run = cli.run(words)
    assert.equal(0, run.status)
    assert.equal("", run.err)
    local c = q:config()
    assert.same({ 10, 300, 100, true, "dead", { [9] = 3 },
                  { seconds = 60, bytes = 1024 } },
                { c.max_attempts, c.lease, c.max_items, c.ordered, c.overflow,
                  c.weights, c.keep_done })
    assert.equal(0, cli.run({ "config", path, "mails", "max_items=none",
                              "--yes" }).status)
    assert.equal(math.huge, q:config().max_items)
  end)

  it("refuses what is wrong", function()
    local function config(word, pattern)
      refused({ "config", path, "mails", word, "--yes" }, 2, pattern)
    end
    config("lease", "'lease' is not NAME=VALUE")
    config("leas=1", "there is no setting 'leas'.*lease")
    config("lease=soon", "option 'lease' must be")
    config("max_attempts=0", "option 'max_attempts' must be")
    config("validate=1", "there is no setting 'validate'")
    assert.equal(3600, q:config().lease)
  end)
end)

describe("respool result", function()
  it("writes what the handler returned, or says what became of the item",
     function()
    local kept = assert(store:queue("kept", { keep_done = 60,
                                              max_attempts = 1 }))
    local first = assert(kept:push_many { 1, 2, 3 })
    assert(kept:work(function(n)
      if n == 2 then error "boom" end
      return { n = n }
    end, { limit = 2 }))
    local function result(n, ...)
      return { "result", path, "kept", tostring(first + n - 1), ... }
    end
    assert.equal('{"n":1}\n', cli.run(result(1)).out)
    assert.equal('{"n":1}\n', cli.run(result(1, "--wait", "1s")).out)
    refused(result(2), 1, "keeps no finished item")
    refused(result(2, "--wait", "0"), 1, "died, exhausted: .*boom")
    refused(result(3, "--wait", "0"), 1, "is not over yet")
  end)

  -- item:done(false) keeps false, which was taken for an error.
  it("writes a result that is false", function()
    local kept = assert(store:queue("kept", { keep_done = 60 }))
    local id = assert(kept:push "is it?")
    assert(kept:work(function(_, item) item:done(false) end, { limit = 1 }))
    for _, wait in ipairs { {}, { "--wait", "1s" } } do
      local ran = cli.run { "result", path, "kept", tostring(id),
                            compat.unpack(wait) }
      assert.same({ 0, "false\n" }, { ran.status, ran.out })
    end
  end)
end)

describe("respool item", function()
  it("makes items due", function()
    local id = assert(q:push("later", { delay = 3600, key = "k" }))
    assert.equal("1 due now\n", cli.run({ "item", "run", path, "mails",
                                          "--key", "k" }).out)
    assert.is_true(q:get(id).visible_at <= store:now())
    refused({ "item", "run", path, "mails" }, 2, "which items?")
    refused({ "item", "run", path, "mails", "99" }, 1, "there is no item 99")
  end)

  it("cancels items that are worked on", function()
    local batch = assert(q:take())
    local id = tostring(batch[1].id)
    assert.equal("1 cancelled\n", cli.run({ "item", "cancel", path, "mails",
                                            id }).out)
    refused({ "item", "cancel", path, "mails", id }, 1,
            "there is no item " .. id)
    batch:close()
  end)

  it("kills items", function()
    assert.equal("2 killed\n", cli.run({ "item", "kill", path, "mails", "2",
                                         "3", "--error", "why" }).out)
    local letter = q.dead:get(1)
    assert.same({ "killed", "why", 2 },
                { letter.reason, letter.error, letter.id })
  end)

  it("moves items", function()
    local to = assert(store:queue "other")
    assert.equal("1 moved\n", cli.run({ "item", "move", path, "mails", "2",
                                        "--to", "other" }).out)
    assert.same({ "b" }, helper.payloads(to))
    refused({ "item", "move", path, "mails", "3", "--to", "none" }, 1,
            "there is no queue 'none'")
    refused({ "item", "move", path, "mails", "3", "--to", "mails" }, 2,
            "the items are in queue 'mails'")
  end)

  it("edits an item", function()
    assert.equal("1 edited\n", cli.run({ "item", "edit", path, "mails",
                                         '{"n":1}', "--id", "2" }).out)
    assert.same({ n = 1 }, q:get(2).payload)
    assert.equal(0, cli.run({ "item", "edit", path, "mails", "{", "--raw",
                              "--id", "2" }).status)
    assert.equal("{", q:get(2).bytes)
    refused({ "item", "edit", path, "mails", "{", "--id", "2" }, 2,
            "cannot be read as JSON")
    refused({ "item", "edit", path, "mails", "1" }, 2, "which item?")
  end)

  it("leaves leased items", function()
    q:take()
    refused({ "item", "kill", path, "mails", "2" }, 1, "leased")
  end)
end)
