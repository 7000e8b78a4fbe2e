-- SPDX-License-Identifier: MIT
--
-- Retrying: when an item comes again after it failed, and when no more.
-- The delays of policies are seen here through due times.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local respool = require "respool"

local backoff = respool.backoff

local t

before_each(function() t = queue_of.new() end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

local function take()
  return assert(t.q:take())
end

-- Takes the one item and lets it fail.
local function fail(given)
  local batch = take()
  batch:retry(given)
  assert(batch:settle())
end

-- Seconds until the item is due.
local function wait_of(id)
  local item = t.q:get(id or 1)
  return item.visible_at - t.store:now()
end

-- The waits between n failures, each to its end.
local function waits(policy, n)
  t:queue { retry = policy, max_attempts = math.huge }
  t.q:push "a"
  local list = {}
  for i = 1, n do
    fail()
    list[i] = math.floor(wait_of() * 1000 + 0.5) / 1000
    t.store:advance(list[i])
  end
  return list
end

local function work(handler)
  return t.q:work(handler, { stop_when_empty = true })
end

describe("a retry policy without jitter", function()
  local SAYS = {
    ["constant"] = { backoff.constant { delay = 2.5 },
                          { 2.5, 2.5, 2.5, 2.5 } },
    ["linear"] = { backoff.linear { initial = 2, step = 3, max = 10 },
                        { 2, 5, 8, 10, 10 } },
    ["exponential with a cap"] = {
      backoff.exponential { initial = 1, max = 30 },
      { 1, 2, 4, 8, 16, 30, 30 } },
    ["exponential of another base"] = {
      backoff.exponential { initial = 2, factor = 1.5, max = 100 },
      { 2, 3, 4.5, 6.75 } },
    ["polynomial"] = { backoff.polynomial { initial = 2, power = 2 },
                            { 2, 8, 18, 32 } },
    ["fibonacci"] = { backoff.fibonacci { initial = 1, max = 12 },
                           { 1, 1, 2, 3, 5, 8, 12, 12 } },
    ["list of delays"] = { backoff.list { 5, 30, 300 },
                                { 5, 30, 300, 300 } },
  }
  for name, case in pairs(SAYS) do
    it("sets the due times it says: " .. name, function()
      assert.same(case[2], waits(case[1], #case[2]))
    end)
  end

  it("of no delay lets an item come again at once", function()
    assert.same({ 0, 0 }, waits(backoff.constant { delay = 0 }, 2))
  end)
end)

describe("jitter", function()
  -- Due times in each other's range, and not always the same.
  local function assert_between(list, low, high)
    local least, most = math.huge, 0
    for _, wait in ipairs(list) do
      assert.is_true(wait >= low and wait <= high, tostring(wait))
      least, most = math.min(least, wait), math.max(most, wait)
    end
    assert.is_true(most - least > (high - low) / 4)
  end

  local function constant(jitter)
    return waits(backoff.constant { delay = 100, jitter = jitter }, 40)
  end

  it("full is anything up to the delay", function()
    assert_between(constant "full", 0, 100)
  end)

  it("equal is the upper half of it", function()
    assert_between(constant "equal", 50, 100)
  end)

  it("of a share is that much more or less, but not over the cap", function()
    local policy = backoff.linear {
      initial = 100, step = 0, max = 105, jitter = 0.2 }
    assert_between(waits(policy, 40), 80, 105)
  end)

  it("decorrelated is up to three times the delay before", function()
    local list = waits(backoff.decorrelated { initial = 1, max = 500 }, 40)
    local before = 1
    for _, wait in ipairs(list) do
      assert.is_true(wait >= 1 and wait <= math.min(3 * before, 500) + 0.001)
      before = wait
    end
  end)

  it("is the same for the same seed", function()
    local policy = backoff.exponential { initial = 10, jitter = "full" }
    t.store = helper.store { seed = 7 }
    local first = waits(policy, 8)
    t.store = helper.store { seed = 7 }
    assert.same(first, waits(policy, 8))
    t.store = helper.store { seed = 8 }
    assert.is_not.same(first, waits(policy, 8))
  end)
end)

describe("attempts", function()
  it("are limited; then the item is a dead letter", function()
    t:queue { max_attempts = 3 }
    t.q:push "a"
    for i = 0, 2 do
      assert.equal(i, t.q:get(1).attempts)
      fail { delay = 0, error = "no " .. i }
    end
    local dead_letter = t.q.dead:oldest()
    assert.equal("exhausted", dead_letter.reason)
    assert.equal("no 2", dead_letter.error)
    assert.equal(3, dead_letter.attempts)
    assert.equal(0, t.q:length().total)
  end)

  it("of one make the first failure the last", function()
    t:queue { max_attempts = 1 }
    t.q:push "a"
    fail()
    assert.equal("exhausted", t.q.dead:oldest().reason)
  end)

  it("are counted in the store", function()
    t:queue { max_attempts = 3 }
    t.q:push "a"
    fail { delay = 0 }
    fail { delay = 0 }
    assert(t.store:close())
    t.store = assert(helper.open(t.store.path, { clock = "manual" }))
    t:queue()
    assert.equal(2, t.q:get(1).attempts)
    fail()
    assert.equal(3, t.q.dead:oldest().attempts)
  end)

  it("without a limit go on, and no due time overflows", function()
    local list = waits(backoff.exponential { factor = 10, max = 1e12 }, 16)
    assert.same({ 1, 1e11, 1e12, 1e12 }, { list[1], list[12], list[13],
                                           list[16] })
    assert.equal(16, t.q:get(1).attempts)
  end)

  it("up to 10,000 give delays within the cap", function()
    for _, policy in ipairs {
      backoff.exponential { factor = 1e6, max = 86400 },
      backoff.polynomial { power = 90, max = 86400 },
      backoff.fibonacci { max = 86400 },
      backoff.linear { step = 1e6, max = 86400 },
    } do
      for _, attempt in ipairs { 1, 2, 63, 64, 65, 1000, 10000 } do
        local delay = policy:delay(attempt)
        assert.is_true(delay >= 1 and delay <= 86400)
      end
      assert.equal(86400, policy:delay(10000))
    end
  end)
end)

describe("waiting for a retry", function()
  it("lets others go on", function()
    t:queue { retry = backoff.constant { delay = 60 } }
    t.q:push_many { "a", "b", "c" }
    fail()
    local batch = t.q:take { limit = 9 }
    assert.same({ "b", "c" },
                { batch:item(1).payload, batch:item(2).payload })
    batch:done()
    batch:settle()
    t.store:advance(60)
    assert.equal("a", take():item(1).payload)
  end)

  it("is stored: it ends at its time for whoever comes then", function()
    t:queue { retry = backoff.constant { delay = 60 } }
    t.q:push "a"
    fail()
    local due = t.q:get(1).visible_at
    t.store:close()
    t.store = assert(helper.open(t.store.path, { clock = "manual" }))
    t:queue()
    assert.equal(due, t.q:get(1).visible_at)
    t.store:advance(due - t.store:now() - 0.01)
    assert.equal(0, #take())
    t.store:advance(0.01)
    assert.equal(1, #take())
  end)

  it("takes the delay given with the outcome, else the policy's", function()
    t:queue { retry = backoff.list { 10, 20, 30 } }
    t.q:push "a"
    fail { delay = 500 }
    assert.near(500, wait_of(), 0.001)
    t.store:advance(500)
    fail()
    assert.near(20, wait_of(), 0.001)
  end)
end)

describe("an item at its last attempt", function()
  it("cools down and starts over, where the queue says so", function()
    t:queue { max_attempts = 2, on_exhausted = { cooldown = 600 },
            retry = backoff.list { 5, 7 } }
    t.q:push "a"
    for round = 1, 3 do
      fail { error = "round " .. round }
      assert.near(5, wait_of(), 0.001)
      t.store:advance(5)
      fail { error = "round " .. round }
      assert.near(600, wait_of(), 0.001)
      assert.equal(0, t.q:get(1).attempts)
      assert.equal("round " .. round, t.q:get(1).error)
      t.store:advance(600)
    end
    assert.same({ 0, 1 }, { t.q.dead:count(), t.q:length().total })
    assert.equal(7, take():item(1).deliveries)
  end)

  it("is dropped, where the queue says so", function()
    t:queue { max_attempts = 2, on_exhausted = "drop" }
    t.q:push "a"
    fail { delay = 0 }
    fail { delay = 0 }
    assert.same({ 0, 0 }, { t.q.dead:count(), t.q:length().total })
    assert.equal(1, t.q:stats().removed)
  end)

  it("is not reached by a release or snooze", function()
    t:queue { max_attempts = 1 }
    t.q:push "a"
    for _ = 1, 5 do
      local batch = take()
      batch:snooze(1)
      batch:settle()
      t.store:advance(1)
    end
    assert.equal(0, t.q:get(1).attempts)
  end)
end)

describe("an error decides for itself", function()
  before_each(function()
    t:queue { retry = backoff.constant { delay = 5 }, max_attempts = 3 }
    t.q:push "a"
  end)

  it("whether it is worth a retry", function()
    work(function() error { message = "bad", retryable = false } end)
    local dead_letter = t.q.dead:oldest()
    assert.same({ "rejected", 1, "bad" },
                { dead_letter.reason, dead_letter.deliveries,
                  dead_letter.error })
  end)

  it("when it is to be tried again", function()
    local times = {}
    work(function()
      table.insert(times, t.store:now())
      error { message = "429", retry_after = 90 }
    end)
    assert.near(180, times[3] - times[1], 0.01)
    assert.equal("exhausted", t.q.dead:oldest().reason)
  end)
end)

describe("decide", function()
  local function decide(f)
    t:queue { max_attempts = 2, retry = backoff.constant { delay = 5 },
            decide = f }
    t.q:push { n = 1 }
  end

  it("sees the error and the item", function()
    local seen = {}
    decide(function(err, item)
      table.insert(seen, { err.status, item.payload.n, item.attempts })
      return "retry"
    end)
    work(function() error { status = 503 } end)
    assert.same({ { 503, 1, 0 }, { 503, 1, 1 } }, seen)
  end)

  it("sets the delay of a retry, within the attempts", function()
    decide(function() return "retry", 77 end)
    local before = t.store:now()
    work(function() error "x" end)
    assert.near(before + 77, t.store:now(), 0.01)
    assert.equal(2, t.q.dead:oldest().attempts)
  end)

  it("makes a dead letter of a group", function()
    decide(function(err) return "dead", err.kind end)
    work(function() error { message = "no", kind = "schema" } end)
    local dead_letter = t.q.dead:oldest()
    assert.same({ "rejected", "schema", 1 },
                { dead_letter.reason, dead_letter.group,
                  dead_letter.deliveries })
  end)

  it("hands an item back unspent", function()
    local calls = 0
    decide(function() return "release" end)
    work(function(_, item)
      calls = calls + 1
      assert.equal(0, item.attempts)
      if calls < 5 then error "not now" end
    end)
    assert.equal(1, t.q:stats().done)
    assert.equal(4, t.q:stats().released)
  end)

  it("drops an item", function()
    decide(function() return "drop" end)
    work(function() error "junk" end)
    assert.same({ 0, 0, 1 },
                { t.q.dead:count(), t.q:length().total, t.q:stats().removed })
  end)

  it("leaves it to the policy by saying nothing, or by failing", function()
    decide(function(err) if err == "odd" then error "in decide" end end)
    local calls = 0
    work(function()
      calls = calls + 1
      error(calls == 1 and "odd" or "even", 0)
    end)
    local dead_letter = t.q.dead:oldest()
    assert.equal("exhausted", dead_letter.reason)
    assert.matches("odd; decide: .*in decide", dead_letter.history[1].error)
  end)
end)
