-- SPDX-License-Identifier: MIT
--
-- Dead letters: how items come into a DLQ, what is kept of them there, and
-- how they leave it.

local helper = require "spec.helper"
local respool = require "respool"
local code = helper.code

local store, q

local function queue(options)
  local all = { retry = respool.backoff.constant { delay = 10 } }
  for name, value in pairs(options or {}) do all[name] = value end
  q = assert(store:queue("orders", all))
  return q
end

before_each(function()
  store = helper.store()
  queue()
end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

local function take(n)
  return assert(q:take { limit = n or 1 })
end

-- Takes up to n items, which all become what `verb` says.
local function settle(n, verb, argument)
  local batch = take(n)
  batch[verb](batch, argument)
  assert(batch:settle())
end

-- n dead letters whose payloads count from 1, of a group.
local function dead_letters(n, group)
  local list = {}
  for i = 1, n do list[i] = i end
  q:push_many(list)
  settle(n, "dead", { group = group })
end

local function numbers(list)
  local found = {}
  for i, dead_letter in ipairs(list) do found[i] = dead_letter.number end
  return found
end

local function fail_often(n, text)
  for i = 1, n do
    settle(1, "retry", { delay = 10, error = (text or "failure ") .. i })
    store:advance(10)
  end
end

describe("a dead letter (F2, F18)", function()
  it("tells all that happened to its item", function()
    queue { max_attempts = 2 }
    q:push({ sku = "A-1" }, { headers = { trace = "t" }, priority = 4 })
    local pushed_at = store:now()
    take()
    store:advance(31)
    settle(1, "retry", { error = "one", delay = 5 })
    store:advance(5)
    settle(1, "retry", { error = "two", group = "net" })
    local dead_letter = q.dead:get(1)
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
    q:push("expired", { ttl = 1 })
    store:advance(1)
    take()
    for _, way in ipairs { "exhausted", "rejected", "crashed" } do
      q:push(way)
      if way == "exhausted" then settle(1, "retry") end
      if way == "rejected" then settle(1, "dead") end
      if way == "crashed" then
        take()
        store:advance(31)
        take()
      end
    end
    local n = 0
    for dead_letter in q.dead:each() do
      assert.equal(dead_letter.payload, dead_letter.reason)
      n = n + 1
    end
    assert.equal(4, n)
  end)

  it("goes straight to the DLQ where the handler says so", function()
    q:push "a"
    settle(1, "dead", { error = "no such sku", group = "data" })
    local dead_letter = q.dead:oldest()
    assert.same({ "rejected", "no such sku", "data", 1, 1 },
                { dead_letter.reason, dead_letter.error, dead_letter.group,
                  dead_letter.attempts, dead_letter.deliveries })
  end)

  it("needs neither error nor group", function()
    q:push "a"
    settle(1, "dead")
    local dead_letter = q.dead:oldest()
    assert.is_nil(dead_letter.error)
    assert.is_nil(dead_letter.group)
    assert.same({ { group = "", reason = "rejected", count = 1 } },
                q.dead:groups())
  end)

  it("survives its queue and the store's being closed", function()
    dead_letters(3)
    store:drop_queue "orders"
    store:close()
    store = assert(helper.open(store.path, { clock = "manual" }))
    assert.same({ 1, 2, 3 }, numbers(store:dead "orders":list()))
  end)
end)

describe("the history of a dead letter", function()
  it("keeps the first and the last failures, and counts them all", function()
    queue { max_attempts = 9 }
    q:push "a"
    fail_often(9)
    local dead_letter = q.dead:oldest()
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
    q:push "a"
    fail_often(10, ("x"):rep(900))
    local before = store:stats().used_bytes
    fail_often(290, ("x"):rep(900))
    local dead_letter = q.dead:oldest()
    assert.equal(300, dead_letter.failures)
    assert.equal(4, #dead_letter.history)
    assert.is_true(store:stats().used_bytes <= before + 64 * 1024)
  end)

  it("cuts long texts", function()
    q:push "a"
    settle(1, "dead", { error = ("é"):rep(5000) })
    local dead_letter = q.dead:oldest()
    assert.equal(("é"):rep(512), dead_letter.error)
    assert.equal(("é"):rep(512), dead_letter.history[1].error)
  end)

  it("keeps errors that are no text", function()
    q:push "a"
    settle(1, "dead", { error = "\255\0\254" })
    assert.equal("\255", q.dead:oldest().error:sub(1, 1))
  end)

  it("goes with an item from its first queue's cooldown on", function()
    queue { max_attempts = 1, on_exhausted = { cooldown = 5 } }
    q:push "a"
    settle(1, "retry", { error = "first" })
    store:advance(5)
    settle(1, "dead", { error = "second" })
    assert.equal(2, q.dead:oldest().failures)
    assert.equal("first", q.dead:oldest().history[1].error)
  end)
end)

describe("DLQs", function()
  it("are named by the queue, the item, or after the queue", function()
    dead_letters(1)
    queue { dead_letter = "morgue" }
    dead_letters(2)
    q:push "a"
    settle(1, "dead", { dlq = "lawyers" })
    assert.same({ "lawyers", "morgue", "orders" }, store:dead_letter_queues())
    assert.same({ 1, 2, 1 }, { store:dead "lawyers":count(),
      store:dead "morgue":count(), store:dead "orders":count() })
  end)

  it("are found by a function of item and error", function()
    queue { dead_letter = function(item, err) return item.payload .. err end }
    q:push_many { "a", "b" }
    settle(2, "dead", { error = "-x" })
    assert.same({ "a-x", "b-x" }, store:dead_letter_queues())
  end)

  it("take the dead letters of several queues", function()
    for _, name in ipairs { "a", "b" } do
      q = store:queue(name, { dead_letter = "all" })
      dead_letters(2)
    end
    local from = {}
    for dead_letter in store:dead "all":each() do
      table.insert(from, dead_letter.queue .. dead_letter.id)
    end
    assert.same({ "a1", "a2", "b1", "b2" }, from)
  end)

  it("number their dead letters, and no number twice", function()
    dead_letters(3)
    q.dead:remove(3)
    q.dead:purge()
    dead_letters(1)
    assert.same({ 4 }, numbers(q.dead:list()))
  end)
end)

describe("looking into a DLQ", function()
  it("counts without reading it", function()
    assert.equal(0, q.dead:count())
    dead_letters(250)
    assert.equal(250, q.dead:count())
    assert.equal(250, q:length().dead)
  end)

  it("pages through it from either end", function()
    dead_letters(250)
    local seen, after = {}, nil
    repeat
      local page = q.dead:list { after = after, limit = 60 }
      for _,
        dead_letter in ipairs(page) do table.insert(seen,
          dead_letter.number) end
      after = page[#page] and page[#page].number
    until #page == 0
    assert.equal(250, #seen)
    assert.same({ 1, 125, 250 }, { seen[1], seen[125], seen[250] })
    assert.equal(100, #q.dead:list())
    assert.same({ 3, 2 }, numbers(q.dead:list {
      after = 4, limit = 2, order = "newest" }))
    assert.same({}, q.dead:list { after = 1, order = "newest" })
    assert.same({}, q.dead:list { after = 250 })
  end)

  it("gets one, or the oldest", function()
    dead_letters(3)
    assert.equal(2, q.dead:get(2).payload)
    q.dead:remove(1)
    assert.equal(2, q.dead:oldest().number)
    assert.equal("NOT_FOUND", code(q.dead:get(1)))
  end)

  it("counts by group and reason, most first", function()
    dead_letters(2, "net")
    dead_letters(3, "schema")
    dead_letters(1)
    queue { max_attempts = 1 }
    q:push "a"
    settle(1, "retry", { group = "net" })
    assert.same({ { group = "schema", reason = "rejected", count = 3 },
                  { group = "net", reason = "rejected", count = 2 },
                  { group = "", reason = "rejected", count = 1 },
                  { group = "net", reason = "exhausted", count = 1 } },
                q.dead:groups())
    assert.equal(3, #q.dead:list { group = "net" })
  end)

  it("counts very many groups", function()
    for i = 1, 300 do
      q:push(i)
      settle(1, "dead", { group = "group " .. i % 150 })
    end
    local groups = q.dead:groups()
    assert.equal(150, #groups)
    for _, group in ipairs(groups) do assert.equal(2, group.count) end
  end)
end)

describe("a dead letter leaves its DLQ", function()
  it("as an item again, attempts and crashes from none", function()
    queue { max_attempts = 1 }
    q:push("a", { priority = 7, headers = { h = 1 } })
    settle(1, "retry", { error = "no" })
    assert.is_true(q.dead:retry(1))
    local item = take():item(1)
    assert.same({ "a", 7, { h = 1 }, 0, 1, 0, 1 }, { item.payload,
      item.priority, item.headers, item.attempts, item.deliveries,
      item.crashes, item.replays })
    assert.equal(0, q.dead:count())
  end)

  it("with its attempts, where that is asked for", function()
    queue { max_attempts = 2 }
    q:push "a"
    fail_often(2)
    q.dead:retry(1, { keep_attempts = true })
    settle(1, "retry")
    assert.equal(3, q.dead:oldest().attempts)
  end)

  it("when it is removed", function()
    dead_letters(3)
    assert.is_true(q.dead:remove(2))
    assert.equal("NOT_FOUND", code(q.dead:remove(2)))
    assert.same({ 1, 3 }, numbers(q.dead:list()))
  end)

  it("when it is purged by age", function()
    dead_letters(2)
    store:advance(100)
    dead_letters(2)
    store:advance(50)
    assert.equal(0, q.dead:purge { older_than = 151 })
    assert.equal(2, q.dead:purge { older_than = 149 })
    assert.same({ 3, 4 }, numbers(q.dead:list()))
  end)

  it("when it is purged by group and predicate", function()
    dead_letters(4, "net")
    dead_letters(4, "schema")
    assert.equal(1, q.dead:purge { group = "net", where = function(dead_letter)
      return dead_letter.payload == 3
    end })
    assert.equal(3, q.dead:purge { group = "net" })
    assert.equal(4, q.dead:count())
    assert.equal(0, q.dead:purge { group = "nothing such" })
  end)

  it("by nothing else: no dead letter goes away by itself (guarantee 6)",
     function()
    dead_letters(3)
    store:advance(1e9)
    q:push("b", { ttl = 1 })
    q:work(function() end, { stop_when_empty = true })
    q:purge()
    assert.equal(3, q.dead:count())
  end)

  it("one of very many, in pages", function()
    dead_letters(2500)
    assert.equal(1250, q.dead:purge { where = function(dead_letter)
      return dead_letter.number % 2 == 0
    end })
    assert.equal(1250, q.dead:purge())
    assert.same({}, q.dead:list())
  end)
end)
