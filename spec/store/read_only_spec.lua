-- SPDX-License-Identifier: MIT
--
-- A store that was opened read-only: it can be looked at, and nothing else.

local helper = require "spec.helper"

local function filled()
  local path = helper.location()
  local store = assert(helper.open(path))
  store:queue("mails"):push_many { "a", "b", "c" }
  store:close()
  return path
end

local function look(path)
  return assert(helper.open(path, { read_only = true }))
end

describe("a store that was opened read-only", function()
  it("shows what is in it", function()
    local store = look(filled())
    local mails = assert(store:queue "mails")
    assert.equal(3, mails:length().ready)
    assert.equal("b", mails:get(2).payload)
    assert.equal("a", mails:peek()[1].payload)
    assert.same({}, store:check())
    assert.matches("respool_pushed_total", store:metrics())
  end)

  -- Leases of plain items are in the journal's block alone, which it did not
  -- read: to those who may only look nobody worked.
  it("shows who has what in hand", function()
    local path = filled()
    local writer = assert(helper.open(path))
    local batch = writer:queue("mails"):take { limit = 2 }
    local store = look(path)
    local mails = assert(store:queue "mails")
    assert.same({ 1, 2 }, { mails:length().ready, mails:length().leased })
    assert.equal("leased", mails:get(1).state)
    assert.near(30, mails:get(1).visible_at - store:now(), 5)
    batch:done()
    batch:settle()
    assert.same({ 1, 0 }, { mails:length().ready, mails:length().leased })
  end)

  it("keeps every byte, and its number of commits", function()
    local path = filled()
    local before = helper.read(path .. "/data.mdb")
    local store = look(path)
    local commits = store:stats().last_txn
    assert.equal("healthy", store:health(helper.UNTIMED).status)
    store:queue("mails"):peek(10)
    assert.equal(commits, store:stats().last_txn)
    store:close()
    assert.is_true(before == helper.read(path .. "/data.mdb"))
  end)

  it("raises on what would change something", function()
    local store = look(filled())
    local mails = assert(store:queue "mails")
    for _, change in ipairs {
      function() mails:push "d" end, function() mails:take() end,
      function() mails:pause() end, function() mails:purge() end,
      function() store:maintain() end,
      function() store:queue("mails", { lease = 5 }) end,
    } do
      assert.error_matches(change, "the store was opened read_only")
    end
  end)

  it("does not make a queue that is missing", function()
    local store = look(filled())
    assert.equal("NOT_FOUND", select(3, store:queue "orders"))
    assert.same({ "mails" }, store:queues())
  end)

  it("does not make a store that is missing", function()
    local _, _, code = helper.open(helper.location(), { read_only = true })
    assert.equal("NOT_FOUND", code)
  end)

  it("sees what others commit meanwhile", function()
    local path = filled()
    local store = look(path)
    local mails = assert(store:queue "mails")
    helper.spawn([[
      local store = assert(require "respool".open(arg[1]))
      store:queue("mails"):push "d"
    ]], path):wait()
    assert.equal(4, mails:length().ready)
  end)

  it("is shared in a process, but not to be written to there", function()
    local path = filled()
    local first = look(path)
    local second = look(path)
    assert.equal(3, second:queue("mails"):length().ready)
    assert.equal("BUSY", select(3, helper.open(path)))
    first:close()
    second:close()
    assert(helper.open(path):queue("mails"):push "d")
  end)

  it("may be a second handle where the first one writes", function()
    local path = filled()
    local writer = assert(helper.open(path))
    local store = look(path)
    assert(writer:queue("mails"):push "d")
    assert.equal(4, store:queue("mails"):length().ready)
    assert.has_error(function() store:queue("mails"):push "e" end)
  end)

  it("refuses a store in memory", function()
    assert.has_error(function()
      helper.open(":memory:", { read_only = true })
    end)
  end)
end)

describe("a queue opened with create = false", function()
  it("is NOT_FOUND when it is missing, and not made", function()
    local store = helper.store()
    local _, _, code = store:queue("mails", { create = false, lease = 5 })
    assert.equal("NOT_FOUND", code)
    assert.same({}, store:queues())
  end)

  it("gets the options that are given when it is there", function()
    local store = helper.store()
    store:queue "mails"
    local mails = assert(store:queue("mails", { create = false, lease = 5 }))
    assert.equal(5, mails:config().lease)
  end)
end)
