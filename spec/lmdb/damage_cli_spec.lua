-- SPDX-License-Identifier: MIT
--
-- Commands on a store with damaged records: each names them and goes on.

local cli = require "spec.helper.cli"
local core = require "respool.core"
local helper = require("spec.helper").without_journal()
local json = require "respool.support.json"
local respool = require "respool"
local stored = require "spec.helper.stored"
local transfer = require "spec.helper.transfer"

-- A store whose queue "mails" holds n items in one segment: path and queue.
local function items(n)
  local path = helper.location()
  local q = assert(assert(helper.open(path)):queue "mails")
  q:push_many(transfer.upto(n))
  return path, q
end

-- The same of n dead letters.
local function dead_letters(n)
  local path, q = items(n)
  q:work(function(payload)
    return respool.dead { error = "no " .. payload.n, group = "g" }
  end, { stop_when_empty = true })
  return path, q
end

describe("respool export", function()
  it("keeps damaged dead letters in the DLQ, and names them", function()
    local path, q = dead_letters(5)
    stored.damage(path, "flip", "dead_letters", 1, -1)
    local copy = cli.run { "export", path, "mails", "--dead" }
    assert.equal(1, copy.status)
    assert.equal("respool: 1 dead letter damaged, an import passes over them: "
      .. "2\n", copy.err)
    local dir = helper.dir()
    local run = cli.run { "export", path, "mails", dir, "--dead", "--remove" }
    assert.equal(1, run.status)
    assert.equal("respool: 1 dead letter damaged, left in the DLQ: 2\n",
                 run.err)
    assert.equal(1, q.dead:count())
    run = cli.run { "import", helper.location(), "in", dir }
    assert.same({ 0, "4 pushed, 0 imported before, 0 not imported\n" },
                { run.status, run.out })
    run = cli.run { "import", helper.location(), "in", input = copy.out }
    assert.same({ status = 1, err = "respool: dead letter 2: it is damaged\n",
                  out = "4 pushed, 0 imported before, 1 not imported\n" }, run)
    run = cli.run { "import", "--verify", "x", "x", input = copy.out }
    assert.same({ 1, "respool: dead letter 2: it is damaged\n" },
                { run.status, run.err })
  end)

  -- A moved file whose first record stays in the DLQ is not taken for one
  -- that a killed export left.
  it("never removes a damaged dead letter, however often it runs", function()
    local path, q = dead_letters(3)
    stored.damage(path, "flip", "dead_letters", 0, -1)
    local dir = helper.dir()
    for _ = 1, 3 do
      cli.run { "export", path, "mails", dir, "--dead", "--remove" }
    end
    assert.equal(1, q.dead:count())
    assert.equal(1, #core.file.list(dir))
  end)

  it("names the items of damaged segments, which it cannot write", function()
    local path, q = items(5)
    q:push_many { { n = 6 }, { n = 7 } }
    stored.damage(path, "flip", "segments", 0, -1)
    local run = cli.run { "export", path, "mails" }
    assert.equal(1, run.status)
    assert.equal("respool: 5 items damaged, not exported: 1-5\n",
                 run.err)
    assert.equal(4, select(2, run.out:gsub("\n", "")))
    run = cli.run { "export", path, "mails", helper.dir(), "--json" }
    assert.same({ 5, 2, { 1, 2, 3, 4, 5 } }, (function(counts)
      return { counts.damaged, counts.written, counts.damaged_numbers }
    end)(json.decode(run.out)))
    run = cli.run { "export", path, "mails", helper.dir(), "--remove" }
    assert.equal(1, run.status)
    assert.matches("^respool: an item died %(.-reason=undecodable%)\n"
      .. "respool: 5 items dead%-lettered: undecodable %(see respool dead "
      .. "list%)\n$", run.err)
    assert.same({ 0, 1 }, { q:length().total, q.dead:count() })
  end)
end)

describe("respool dead", function()
  it("shows a damaged dead letter as that, and of no age", function()
    local path = dead_letters(1)
    stored.damage(path, "flip", "dead_letters", 0, -1)
    local run = cli.run { "dead", "show", path, "mails", "1" }
    assert.matches("\nitem +not known\nreason +damaged\n", run.out)
    assert.is_nil(run.out:find("nil", 1, true))
    run = cli.run { "dead", "list", path, "mails" }
    assert.matches("\n +1 +%- +%- +damaged +%- +%- +the dead letter's checksum",
                   run.out)
    run = cli.run { "dead", "purge", path, "mails", "--older-than", "0",
                    "--dry-run" }
    assert.same({ 0, "" }, { run.status, run.err })
  end)
end)

describe("respool ls", function()
  it("says which items are damaged, as peek does", function()
    local path, q = items(3)
    q:push { n = 4 }
    stored.damage(path, "flip", "segments", 0, -1)
    for _, words in ipairs { { "ls", path, "mails" },
                             { "peek", path, "mails", "-n", "9" } } do
      local run = cli.run(words)
      assert.equal("respool: 3 items damaged and not shown: 1-3\n", run.err)
      assert.equal(0, run.status)
    end
  end)
end)

describe("respool replay", function()
  it("names a damaged dead letter, and moves the others", function()
    local path, q = dead_letters(3)
    stored.damage(path, "flip", "dead_letters", 1, -1)
    local run = cli.run { "replay", path, "mails", "--dry-run" }
    assert.matches("^dry run: 2 of 3 dead letters would be moved, 1 failed\n",
                   run.out)
    assert.equal("respool: dead letter 2: it is damaged\n", run.err)
    assert.same({ status = 1, out = "2 dead letters moved, 1 failed\n",
                  err = "respool: dead letter 2: it is damaged\n" },
                cli.run { "replay", path, "mails" })
    assert.same({ 1, 3 }, transfer.numbers(q))
    assert.same({ status = 0, out = "0 dead letters moved, 1 skipped\n",
      err = "" },
                cli.run { "replay", path, "mails", "--since", "1h ago" })
  end)
end)
