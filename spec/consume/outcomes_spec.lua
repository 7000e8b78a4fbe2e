-- SPDX-License-Identifier: MIT
--
-- Outcomes: what handlers return or raise, `decide`, and where dead letters go.

local helper = require "spec.helper"
local respool = require "respool"

local empty = { stop_when_empty = true }

-- A queue that retries after a second, with items pushed.
local function queue(payloads, options)
  local all = { retry = respool.backoff.constant { delay = 1 } }
  for name, value in pairs(options or {}) do all[name] = value end
  local q = assert(helper.store():queue("orders", all))
  if payloads then q:push_many(payloads) end
  return q
end

-- Works until empty; the handler fails as `f` does, on every item.
local function dead_letter_after(f, options)
  local q = queue({ "a" }, options or { max_attempts = 1 })
  q:work(f, empty)
  return q.dead:oldest(), q
end

describe("a handler's word", function()
  local function counts_after(f)
    return queue { 1 }:work(f, { limit = 1 })
  end

  it("is done when it returns anything that is no failure", function()
    assert.equal(1, counts_after(function() end).done)
    assert.equal(1, counts_after(function() return nil end).done)
    assert.equal(1, counts_after(function() return true end).done)
    assert.equal(1, counts_after(function() return "text", 5 end).done)
  end)

  it("is failed when it raises, or returns nil or false and why", function()
    assert.equal(1, counts_after(function() error "no" end).failed)
    assert.equal(1, counts_after(function() return nil, "no" end).failed)
    assert.equal(1, counts_after(function() return false, "no" end).failed)
    assert.equal(1, counts_after(function() return false end).failed)
  end)

  it("may be an outcome", function()
    local function after(outcome)
      local q = queue { 1 }
      q:work(function() return outcome end, { limit = 1 })
      return q:length(), q:get(1)
    end
    assert.equal(1, after(respool.dead()).dead)
    assert.equal(0, after(respool.drop()).total)
    local length, item = after(respool.retry { delay = 7, error = "busy" })
    assert.equal(1, length.retrying)
    assert.equal("busy", item.error)
    assert.equal(1, item.attempts)
    length, item = after(respool.snooze(7))
    assert.equal(1, length.scheduled)
    assert.equal(0, item.attempts)
    length, item = after(respool.release())
    assert.equal(1, length.ready)
    assert.equal(0, item.attempts)
  end)

  it("stands when the item was marked by hand", function()
    local q = queue { 1 }
    q:work(function(_, item) item:snooze(5) end, { limit = 1 })
    assert.equal(1, q:length().scheduled)
  end)

  it("that it raised weighs more than its mark", function()
    local q = queue { 1 }
    q:work(function(_, item) item:done(); error "after all" end, { limit = 1 })
    assert.equal(1, q:get(1).attempts)
  end)
end)

describe("an error", function()
  it("is kept with its traceback", function()
    local dead_letter = dead_letter_after(function() error "boom" end)
    assert.matches("outcomes_spec.lua:%d+: boom", dead_letter.error)
    assert.equal("exhausted", dead_letter.reason)
    assert.equal(1, dead_letter.attempts)
    assert.matches("^stack traceback:.*outcomes_spec.lua:%d+",
                   dead_letter.history[1].trace)
    assert.is_nil(dead_letter.history[1].trace:find "respool/work.lua")
    assert.equal(dead_letter.error, dead_letter.history[1].error)
  end)

  it("may be any value", function()
    local speaking = setmetatable({}, { __tostring = function()
      return "I speak"
    end })
    assert.equal("I speak",
      dead_letter_after(function() error(speaking) end).error)
    assert.equal("42", dead_letter_after(function() error(42, 0) end).error)
    assert.equal("nil", dead_letter_after(function() error(nil) end).error)
    local mute = setmetatable({}, { __tostring = error })
    assert.is_string(dead_letter_after(function() error(mute) end).error)
  end)

  it("that is a table says message and group", function()
    local dead_letter = dead_letter_after(function()
      return nil, { message = "no such sku", group = "data" }
    end)
    assert.equal("no such sku", dead_letter.error)
    assert.equal("data", dead_letter.group)
  end)

  -- A status is a number to most who have one. Such a group was passed over,
  -- and the breaker, which counts 500 to 599, never opened.
  it("may have a number as its group", function()
    local letter = dead_letter_after(function()
      error { message = "away", group = 503 }
    end)
    assert.equal("503", letter.group)
    letter = dead_letter_after(function()
      return respool.dead { group = 550 }
    end)
    assert.equal("550", letter.group)
    local _, q = dead_letter_after(function() end)
    q.dead:push("x", { group = 404 })
    assert.equal(1, #q.dead:list { group = 404 })
    assert.equal(1, q.dead:replay { group = 404 }.moved)
  end)

  it("that is not retryable is the last", function()
    local dead_letter, q = dead_letter_after(function()
      error { message = "no", retryable = false }
    end, { max_attempts = 5 })
    assert.equal("rejected", dead_letter.reason)
    assert.equal(1, q:stats().delivered)
  end)

  it("says when to come again", function()
    local q = queue { 1 }
    q:work(function() error { retry_after = 60 } end, { limit = 1 })
    assert.near(q.store:now() + 60, q:stats().next_due, 0.01)
  end)

  it("is shown to on_error", function()
    local q, seen = queue { "a" }, {}
    local function on_error(err, item) table.insert(seen, err .. item.id) end
    q:work(function() error("no", 0) end, { limit = 1, on_error = on_error })
    assert.same({ "no1" }, seen)
  end)

  it("of on_error itself is kept too", function()
    local q = queue { "a" }
    q:work(function() error("no", 0) end, {
      limit = 1, on_error = function() error("worse", 0) end,
    })
    assert.equal("no; on_error: worse", q:get(1).error)
  end)

  it("of the interpreter's interrupt is no failure", function()
    local q = queue { 1, 2, 3 }
    assert.error_matches(function()
      q:work(function(n)
        if n == 2 then error("interrupted!", 0) end
      end)
    end, "interrupted!")
    assert.same({ ready = 2, leased = 0, scheduled = 0, retrying = 0,
                  dead = 0, total = 2 },
                q:length())
    assert.equal(0, q:get(2).attempts)
  end)
end)

describe("decide", function()
  local function deciding(decide)
    local q = queue({ "a" }, { max_attempts = 5, decide = decide })
    q:work(function() error({ code = 7 }, 0) end, { limit = 1 })
    return q
  end

  it("sees the error and the item", function()
    local seen
    deciding(function(err, item) seen = { err.code, item.id } end)
    assert.same({ 7, 1 }, seen)
  end)

  it("may leave it to the policy", function()
    local q = deciding(function() end)
    assert.equal(1, q:get(1).attempts)
    assert.equal("retrying", q:get(1).state)
  end)

  it("may retry, at a time of its own", function()
    local q = deciding(function() return "retry", 50 end)
    assert.near(q.store:now() + 50, q:stats().next_due, 0.01)
  end)

  it("may give up, with a group", function()
    local dead_letter =
      deciding(function() return "dead", "data" end).dead:oldest()
    assert.equal("data", dead_letter.group)
    assert.equal("rejected", dead_letter.reason)
  end)

  it("may release and drop", function()
    local q = deciding(function() return "release" end)
    assert.equal(0, q:get(1).attempts)
    assert.equal("ready", q:get(1).state)
    assert.equal(0, deciding(function() return "drop" end):length().total)
  end)

  it("that raises leaves it to the policy, and is told", function()
    local q = deciding(function() error("oops", 0) end)
    assert.equal(1, q:get(1).attempts)
    assert.matches("; decide: oops$", q:get(1).error)
  end)

  it("that says nonsense leaves it to the policy, and is told", function()
    local q = deciding(function() return "perhaps" end)
    assert.matches("; decide: returned no decision$", q:get(1).error)
    q = deciding(function() return "retry", -1 end)
    assert.matches("; decide: bad delay for 'retry'$", q:get(1).error)
  end)
end)

describe("dead_letter", function()
  it("names the DLQ that the store keeps", function()
    local _, q = dead_letter_after(function() error "no" end,
                              { max_attempts = 1, dead_letter = "morgue" })
    assert.equal("morgue", q.dead.dlq)
    assert.equal(1, q.store:dead "morgue":count())
  end)

  local function routed(route, max_attempts)
    local q = queue({ "a" }, { max_attempts = max_attempts or 1,
                               dead_letter = route })
    q:work(function() return nil, { message = "no", kind = "data" } end, empty)
    return q
  end

  it("as a function sees item and error, and names a DLQ", function()
    local q = routed(function(item, err) return err.kind .. item.id end)
    assert.equal(1, q.store:dead "data1":count())
    assert.equal(0, q.dead:count())
  end)

  it("is asked only when the item dies", function()
    local asked = 0
    routed(function() asked = asked + 1 end, 3)
    assert.equal(1, asked)
  end)

  it("that raises leaves the queue's own DLQ, and is told", function()
    local q = routed(function() error("oops", 0) end)
    assert.equal("no; dead_letter: oops", q.dead:oldest().error)
    q = routed(function() return "" end)
    assert.matches("dead_letter: returned no name", q.dead:oldest().error)
  end)

  -- In a database the names of DLQs are UTF-8. A handler that chose another
  -- made its worker raise, again for each delivery.
  it("that is not UTF-8 ends no worker", function()
    local q = queue({ "a", "b" }, { max_attempts = 1, dead_letter = function()
      return "caf\233"
    end })
    q:work(function(payload)
      return respool.dead { error = "no", dlq = payload == "b" and "\255"
                                                or nil }
    end, empty)
    local n = 0
    for _, dlq in ipairs(q.store:dead_letter_queues()) do
      n = n + q.store:dead(dlq):count()
    end
    assert.same({ 2, 0 }, { n, q:length().total })
  end)

  it("holds for what is marked by hand", function()
    local q = queue({ 1, 2 }, { dead_letter = function(item)
      return "DLQ " .. item.id
    end })
    local batch = q:take { limit = 2 }
    batch:item(1):dead()
    batch:dead { error = "both" }
    batch:settle()
    assert.same({ "DLQ 1", "DLQ 2" }, q.store:dead_letter_queues())
  end)
end)
