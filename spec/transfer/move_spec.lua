-- SPDX-License-Identifier: MIT

local cli = require "spec.helper.cli"
local helper = require "spec.helper"
local respool = require "respool"
local testing = require "respool.testing"
local transfer = require "spec.helper.transfer"

describe("respool.move", function()
  local from, to

  before_each(function()
    from = assert(helper.store():queue "orders")
    to = assert(helper.store():queue "orders")
  end)

  it("moves the items that are ready, each with what belongs to it", function()
    local expires = from.store:now() + 1000
    local id = assert(from:push({ n = 1 }, {
      key = "k", priority = 7, ttl = 1000, headers = { trace = "t" },
    }))
    assert(from:push({ n = 2 }, { delay = 60 }))
    local pushed_at = from.store:now()
    from.store:advance(10)
    local counts = assert(respool.move { queue = from, to = to })
    assert.same({ 1, 1, 0 }, { counts.read, counts.removed, counts.lost })
    assert.same({ 2 }, transfer.numbers(from))
    local batch = assert(to:take { limit = 9 })
    assert.equal(1, #batch)
    local item = batch:item(1)
    assert.same({ { n = 1 }, "k", 7, { trace = "t" }, expires },
      { item.payload, item.key, item.priority, item.headers,
        item.expires_at })
    assert.same({ "orders", id, pushed_at },
      { item.origin.queue, item.origin.id, item.origin.pushed_at })
  end)

  it("leaves items that are leased, and says how many were", function()
    from:push_many(helper.range(3))
    local held = assert(from:take { limit = 2 })
    assert.equal(1, assert(respool.move { queue = from, to = to }).removed)
    assert.same({ 3 }, helper.payloads(to))
    held:release()
    assert(held:settle())
    assert.equal(2, assert(respool.move { queue = from, to = to }).removed)
    assert.equal(0, from:stats().ready + from:stats().leased)
  end)

  it("moves dead letters, which become items", function()
    local dying = transfer.dead_letters(5, from.store)
    assert(respool.move { dlq = dying.dead, to = to, group = "odd" })
    assert.same({ 1, 3, 5 }, transfer.numbers(to))
    assert.equal(2, dying.dead:count())
  end)

  it("stops at a limit, or when it is told to, and goes on later", function()
    from:push_many(helper.range(1200))
    assert.equal(700, respool.move { queue = from, to = to,
                                     limit = 700 }.removed)
    local stopped = respool.move {
      queue = from, to = to, on_progress = function() return false end,
    }.removed
    assert.is_true(stopped > 0 and stopped < 500)
    assert.equal(500 - stopped,
                 respool.move { queue = from, to = to }.removed)
    assert.same(helper.range(1200), helper.payloads(to))
    assert.same({}, helper.payloads(from))
  end)

  it("stops before a key that is held there, unless told what to do",
     function()
    assert(to:push("theirs", { key = "k" }))
    local function push() assert(from:push("ours", { key = "k" })) end
    push()
    local counts, message, code = respool.move { queue = from, to = to }
    assert.is_nil(counts)
    assert.equal("EXISTS", code)
    assert.matches("item %d+: item %d+ of queue 'orders' holds this key",
                   message)
    from.store:advance(60)
    assert.same({ "ours" }, helper.payloads(from))
    assert(respool.move { queue = from, to = to, on_conflict = "ignore" })
    assert.same({ "theirs" }, helper.payloads(to))
    push()
    assert(respool.move { queue = from, to = to, on_conflict = "replace" })
    assert.same({ "ours" }, helper.payloads(to))
    assert.same({}, helper.payloads(from))
  end)

  it("is refused within a store, or from nowhere", function()
    local other = assert(from.store:queue "other")
    assert.error_matches(function()
      local _ = respool.move { queue = from, to = other }
    end, "'to' is a queue of the same store")
    if helper.engine == "lmdb" then
      helper.sh(("ln -s %s %s.link")
        :format(from.store.path, from.store.path))
      for _, ending in ipairs { "/.", ".link" } do
        local same = assert(helper.open(from.store.path .. ending))
          :queue "other"
        assert.error_matches(function()
          local _ = respool.move { queue = from, to = same }
        end, "'to' is a queue of the same store")
      end
    end
    assert.error_matches(function() local _ = respool.move { to = to } end,
                         "either a 'dlq' or a 'queue'")
  end)

  it("goes from one store in memory to another", function()
    local here = testing.store():queue "orders"
    local there = testing.store():queue "orders"
    here:push_many { 1, 2 }
    assert.equal(2, assert(respool.move { queue = here, to = there }).removed)
    assert.same({ 1, 2 }, testing.contents(there).ready)
    assert.error_matches(function()
      local _ = respool.move { queue = here, to = here.store:queue "other" }
    end, "'to' is a queue of the same store")
  end)

  it("moves each item once when another move comes in between", function()
    from:push_many(helper.range(600))
    local other
    local counts = assert(respool.move {
      queue = from, to = to, on_progress = function()
        other = other or assert(respool.move { queue = from, to = to })
      end,
    })
    assert.equal(600, counts.removed + other.removed)
    assert.is_true(counts.removed > 0 and other.removed > 0)
    local moved = helper.payloads(to)
    table.sort(moved)
    assert.same(helper.range(600), moved)
  end)
end)

describe("respool move", function()
  local from, to, queue

  before_each(function()
    from, to = helper.location(), helper.location()
    queue = assert(assert(helper.open(from)):queue "mails")
  end)

  local function pushed(n)
    queue:push_many(helper.range(n))
  end

  local function assert_moved(said, words)
    local run = cli.run(words)
    assert.same({ 0, said, "" }, { run.status, run.out, run.err })
  end

  it("moves the items of a queue to another store, which it makes", function()
    pushed(3)
    assert_moved("3 items moved\n", { "move", from, to, "mails" })
    assert.same({ 1, 2, 3 },
      helper.payloads(assert(helper.open(to):queue "mails")))
    assert_moved("0 items moved\n", { "move", from, to, "mails" })
  end)

  it("moves so many, into a queue of another name, told as JSON", function()
    pushed(3)
    assert_moved('{"lost":0,"moved":2}\n', {
      "move", from, to, "mails", "--into", "post", "-n", 2, "--json",
    })
    assert.same({ 1, 2 },
      helper.payloads(assert(helper.open(to):queue "post")))
    assert.same({ 3 }, helper.payloads(queue))
  end)

  it("moves dead letters back to work there", function()
    pushed(2)
    queue:work(function() return respool.dead() end, { limit = 2 })
    assert_moved("2 dead letters moved\n",
                 { "move", from, to, "mails", "--dead" })
    assert.equal(0, queue.dead:count())
    assert_moved("2 items moved\n", { "move", to, from, "mails" })
    assert.same({ 1, 2 }, helper.payloads(queue))
  end)

  it("says what stays, such as what a killed move had taken", function()
    pushed(3)
    local held = assert(queue:take { limit = 2 })
    assert.equal(2, #held)
    local run = cli.run { "move", from, to, "mails" }
    assert.same({ 0, "1 item moved\n" }, { run.status, run.out })
    assert.equal("respool: 2 items stay: 0 ready, 0 scheduled, 0 retrying, "
      .. "2 leased\n", run.err)
  end)

  it("says in one line what it cannot do", function()
    if helper.engine == "lmdb" then
      cli.assert_refused(cli.run { "move", from, from .. "/", "mails" }, 2,
                         "FROM and TO are the same store")
    end
    cli.assert_refused(cli.run { "move", from, from, "mails" }, 2,
                       "FROM and TO are the same store")
    cli.assert_refused(cli.run { "move", from, to, "none" }, 1,
                       "there is no queue 'none'")
    cli.assert_refused(cli.run { "move", from, to, "mails", "--group", "g" },
                       2, "%-%-group needs %-%-dead")
  end)
end)
