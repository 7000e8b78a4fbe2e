-- SPDX-License-Identifier: MIT
--
-- Dead letters: how items come into a DLQ, what is kept of them there, and
-- how they leave it.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local respool = require "respool"
local code = helper.code

local t

local function queue(options)
  local all = { retry = respool.backoff.constant { delay = 10 } }
  for name, value in pairs(options or {}) do all[name] = value end
  return t:queue(all)
end

before_each(function()
  t = queue_of.new()
  queue()
end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

-- n dead letters whose payloads count from 1, of a group.
local function dead_letters(n, group)
  local list = {}
  for i = 1, n do list[i] = i end
  t.q:push_many(list)
  t:settle(n, "dead", { group = group })
end

local function numbers(list)
  local found = {}
  for i, dead_letter in ipairs(list) do found[i] = dead_letter.number end
  return found
end

local function fail_often(n, text)
  for i = 1, n do
    t:settle(1, "retry", { delay = 10, error = (text or "failure ") .. i })
    t.store:advance(10)
  end
end

describe("a dead letter", function()
  it("tells all that happened to its item", function()
    queue { max_attempts = 2 }
    t.q:push({ sku = "A-1" }, { headers = { trace = "t" }, priority = 4 })
    local pushed_at = t.store:now()
    t:take()
    t.store:advance(31)
    t:settle(1, "retry", { error = "one", delay = 5 })
    t.store:advance(5)
    t:settle(1, "retry", { error = "two", group = "net" })
    local dead_letter = t.q.dead:get(1)
    assert.same(
      { queue = "orders", id = 1, payload = { sku = "A-1" },
        headers = { trace = "t" }, priority = 4, reason = "exhausted",
        error = "two", group = "net", attempts = 2, deliveries = 3,
        crashes = 1, replays = 0, failures = 3, items = 1 },
      { queue = dead_letter.queue, id = dead_letter.id,
        payload = dead_letter.payload,
        headers = dead_letter.headers, priority = dead_letter.priority,
        reason = dead_letter.reason, error = dead_letter.error,
          group = dead_letter.group,
        attempts = dead_letter.attempts, deliveries = dead_letter.deliveries,
        crashes = dead_letter.crashes, replays = dead_letter.replays,
        failures = dead_letter.failures, items = dead_letter.items })
    assert.near(pushed_at, dead_letter.pushed_at, 0.01)
    assert.near(pushed_at + 30, dead_letter.first_failed_at, 0.01)
    assert.near(pushed_at + 36, dead_letter.died_at, 0.01)
  end)

  it("bears the reason for each way to die", function()
    queue { max_attempts = 1, max_crashes = 1 }
    t.q:push("expired", { ttl = 1 })
    t.store:advance(1)
    t:take()
    for _, way in ipairs { "exhausted", "rejected", "crashed" } do
      t.q:push(way)
      if way == "exhausted" then t:settle(1, "retry") end
      if way == "rejected" then t:settle(1, "dead") end
      if way == "crashed" then
        t:take()
        t.store:advance(31)
        t:take()
      end
    end
    local n = 0
    for dead_letter in t.q.dead:each() do
      assert.equal(dead_letter.payload, dead_letter.reason)
      n = n + 1
    end
    assert.equal(4, n)
  end)

  it("goes straight to the DLQ where the handler says so", function()
    t.q:push "a"
    t:settle(1, "dead", { error = "no such sku", group = "data" })
    local dead_letter = t.q.dead:oldest()
    assert.same({ "rejected", "no such sku", "data", 1, 1 },
                { dead_letter.reason, dead_letter.error, dead_letter.group,
                  dead_letter.attempts, dead_letter.deliveries })
  end)

  it("needs neither error nor group", function()
    t.q:push "a"
    t:settle(1, "dead")
    local dead_letter = t.q.dead:oldest()
    assert.is_nil(dead_letter.error)
    assert.is_nil(dead_letter.group)
    assert.same({ { group = "", reason = "rejected", count = 1 } },
                helper.groups(t.q.dead))
  end)

  it("survives its queue and the store's being closed", function()
    dead_letters(3)
    t.store:drop_queue "orders"
    t.store:close()
    t.store = assert(helper.open(t.store.path, { clock = "manual" }))
    assert.same({ 1, 2, 3 }, numbers(t.store:dead "orders":list()))
  end)
end)

describe("the history of a dead letter", function()
  it("keeps the first and the last failures, and counts them all", function()
    queue { max_attempts = 9 }
    t.q:push "a"
    fail_often(9)
    local dead_letter = t.q.dead:oldest()
    local errors = {}
    for i,
      failure in ipairs(dead_letter.history) do errors[i] = failure.error end
    assert.equal(9, dead_letter.failures)
    assert.same({ "failure 1", "failure 7", "failure 8", "failure 9" },
                errors)
    assert.near(dead_letter.first_failed_at, dead_letter.history[1].at, 0.001)
    assert.near(80, dead_letter.history[4].at - dead_letter.history[1].at, 0.01)
  end)

  it("does not grow with the number of failures", function()
    queue { max_attempts = 300 }
    t.q:push "a"
    fail_often(10, ("x"):rep(900))
    local before = t.store:stats().used_bytes
    fail_often(290, ("x"):rep(900))
    local dead_letter = t.q.dead:oldest()
    assert.equal(300, dead_letter.failures)
    assert.equal(4, #dead_letter.history)
    assert.is_true(t.store:stats().used_bytes <= before + 64 * 1024)
  end)

  it("cuts long texts", function()
    t.q:push "a"
    t:settle(1, "dead", { error = ("é"):rep(5000) })
    local dead_letter = t.q.dead:oldest()
    assert.equal(("é"):rep(512), dead_letter.error)
    assert.equal(("é"):rep(512), dead_letter.history[1].error)
  end)

  it("keeps errors that are no text", function()
    t.q:push "a"
    t:settle(1, "dead", { error = "\255\0\254" })
    assert.equal("\255", t.q.dead:oldest().error:sub(1, 1))
  end)

  it("goes with an item from its first queue's cooldown on", function()
    queue { max_attempts = 1, on_exhausted = { cooldown = 5 } }
    t.q:push "a"
    t:settle(1, "retry", { error = "first" })
    t.store:advance(5)
    t:settle(1, "dead", { error = "second" })
    assert.equal(2, t.q.dead:oldest().failures)
    assert.equal("first", t.q.dead:oldest().history[1].error)
  end)
end)

describe("DLQs", function()
  it("are named by the queue, the item, or after the queue", function()
    dead_letters(1)
    queue { dead_letter = "morgue" }
    dead_letters(2)
    t.q:push "a"
    t:settle(1, "dead", { dlq = "lawyers" })
    assert.same({ "lawyers", "morgue", "orders" }, t.store:dead_letter_queues())
    assert.same({ 1, 2, 1 }, { t.store:dead "lawyers":count(),
      t.store:dead "morgue":count(), t.store:dead "orders":count() })
  end)

  it("are found by a function of item and error", function()
    queue { dead_letter = function(item, err) return item.payload .. err end }
    t.q:push_many { "a", "b" }
    t:settle(2, "dead", { error = "-x" })
    assert.same({ "a-x", "b-x" }, t.store:dead_letter_queues())
  end)

  it("take the dead letters of several queues", function()
    for _, name in ipairs { "a", "b" } do
      t.q = t.store:queue(name, { dead_letter = "all" })
      dead_letters(2)
    end
    local from = {}
    for dead_letter in t.store:dead "all":each() do
      table.insert(from, dead_letter.queue .. dead_letter.id)
    end
    assert.same({ "a1", "a2", "b1", "b2" }, from)
  end)

  it("number their dead letters, and no number twice", function()
    dead_letters(3)
    t.q.dead:remove(3)
    t.q.dead:purge()
    dead_letters(1)
    assert.same({ 4 }, numbers(t.q.dead:list()))
  end)
end)

describe("looking into a DLQ", function()
  it("counts without reading it", function()
    assert.equal(0, t.q.dead:count())
    dead_letters(250)
    assert.equal(250, t.q.dead:count())
    assert.equal(250, t.q:length().dead)
  end)

  it("pages through it from either end", function()
    dead_letters(250)
    local seen, after = {}, nil
    repeat
      local page = t.q.dead:list { after = after, limit = 60 }
      for _,
        dead_letter in ipairs(page) do table.insert(seen,
          dead_letter.number) end
      after = page[#page] and page[#page].number
    until #page == 0
    assert.equal(250, #seen)
    assert.same({ 1, 125, 250 }, { seen[1], seen[125], seen[250] })
    assert.equal(100, #t.q.dead:list())
    assert.same({ 3, 2 }, numbers(t.q.dead:list {
      after = 4, limit = 2, order = "newest" }))
    assert.same({}, t.q.dead:list { after = 1, order = "newest" })
    assert.same({}, t.q.dead:list { after = 250 })
  end)

  it("gets one, or the oldest", function()
    dead_letters(3)
    assert.equal(2, t.q.dead:get(2).payload)
    t.q.dead:remove(1)
    assert.equal(2, t.q.dead:oldest().number)
    assert.equal("NOT_FOUND", code(t.q.dead:get(1)))
  end)

  it("counts by group and reason, most first", function()
    dead_letters(2, "net")
    dead_letters(3, "schema")
    dead_letters(1)
    queue { max_attempts = 1 }
    t.q:push "a"
    t:settle(1, "retry", { group = "net" })
    assert.same({ { group = "schema", reason = "rejected", count = 3 },
                  { group = "net", reason = "rejected", count = 2 },
                  { group = "", reason = "rejected", count = 1 },
                  { group = "net", reason = "exhausted", count = 1 } },
                helper.groups(t.q.dead))
    assert.equal(3, #t.q.dead:list { group = "net" })
  end)

  it("tells of a group when its dead letters died, and which is the newest",
     function()
    dead_letters(2, "net")
    local first = t.store:now()
    t.store:advance(25 * 3600)
    dead_letters(1, "schema")
    dead_letters(3, "net")
    t.store:advance(3600 + 1)
    dead_letters(1, "net")
    local g = t.q.dead:groups()[1]
    local hours = helper.range(24)
    for i = 1, 24 do hours[i] = 0 end
    hours[23], hours[24] = 3, 1
    assert.same({ "net", 6, 7, first, t.store:now() },
                { g.group, g.count, g.newest, g.first_died_at,
                  g.last_died_at })
    assert.same(hours, g.hours)
  end)

  it("counts very many groups", function()
    for i = 1, 300 do
      t.q:push(i)
      t:settle(1, "dead", { group = "group " .. i % 150 })
    end
    local groups = t.q.dead:groups()
    assert.equal(150, #groups)
    for _, group in ipairs(groups) do assert.equal(2, group.count) end
  end)
end)

describe("a dead letter leaves its DLQ", function()
  it("as an item again, attempts and crashes from none", function()
    queue { max_attempts = 1 }
    t.q:push("a", { priority = 7, headers = { h = 1 } })
    t:settle(1, "retry", { error = "no" })
    assert.is_true(t.q.dead:retry(1))
    local item = t:take():item(1)
    assert.same({ "a", 7, { h = 1 }, 0, 1, 0, 1 }, { item.payload,
      item.priority, item.headers, item.attempts, item.deliveries,
      item.crashes, item.replays })
    assert.equal(0, t.q.dead:count())
  end)

  it("with its attempts, where that is asked for", function()
    queue { max_attempts = 2 }
    t.q:push "a"
    fail_often(2)
    t.q.dead:retry(1, { keep_attempts = true })
    t:settle(1, "retry")
    assert.equal(3, t.q.dead:oldest().attempts)
  end)

  it("when it is removed", function()
    dead_letters(3)
    assert.is_true(t.q.dead:remove(2))
    assert.equal("NOT_FOUND", code(t.q.dead:remove(2)))
    assert.same({ 1, 3 }, numbers(t.q.dead:list()))
  end)

  it("when it is purged by age", function()
    dead_letters(2)
    t.store:advance(100)
    dead_letters(2)
    t.store:advance(50)
    assert.equal(0, t.q.dead:purge { older_than = 151 })
    assert.equal(2, t.q.dead:purge { older_than = 149 })
    assert.same({ 3, 4 }, numbers(t.q.dead:list()))
  end)

  it("when it is purged by group and predicate", function()
    dead_letters(4, "net")
    dead_letters(4, "schema")
    local dead = t.q.dead
    assert.equal(1, dead:purge { group = "net", where = function(dead_letter)
      return dead_letter.payload == 3
    end })
    assert.equal(3, t.q.dead:purge { group = "net" })
    assert.equal(4, t.q.dead:count())
    assert.equal(0, t.q.dead:purge { group = "nothing such" })
  end)

  it("by nothing else: no dead letter goes away by itself (guarantee 6)",
     function()
    dead_letters(3)
    t.store:advance(1e9)
    t.q:push("b", { ttl = 1 })
    t.q:work(function() end, { stop_when_empty = true })
    t.q:purge()
    assert.equal(3, t.q.dead:count())
  end)

  it("one of very many, in pages", function()
    dead_letters(2500)
    assert.equal(1250, t.q.dead:purge { where = function(dead_letter)
      return dead_letter.number % 2 == 0
    end })
    assert.equal(1250, t.q.dead:purge())
    assert.same({}, t.q.dead:list())
  end)
end)
