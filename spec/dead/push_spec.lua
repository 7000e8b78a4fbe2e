-- SPDX-License-Identifier: MIT
--
-- dead:push: failures that happened elsewhere.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local payloads = helper.payloads

local t

before_each(function()
  t = queue_of.new { max_items = 1 }
end)

local it = helper.checked(it)

describe("dead:push", function()
  it("makes a dead letter that says what went wrong", function()
    t.store:advance(10)
    assert.equal(1, t.q.dead:push({ to = "ada" }, {
      error = { message = "no such mailbox", group = "smtp" }, attempts = 3,
      priority = 7, headers = { trace = "t1" },
    }))
    local letter = assert(t.q.dead:get(1))
    assert.same({ "ada", "orders", "rejected", "smtp", "no such mailbox", 3, 7,
                  "t1" },
                { letter.payload.to, letter.queue, letter.reason, letter.group,
                  letter.error, letter.attempts, letter.priority,
                  letter.headers.trace })
    assert.equal(t.store:now(), letter.died_at)
    assert.equal(t.store:now(), letter.first_failed_at)
    assert.same({ { at = t.store:now(), error = "no such mailbox",
                    group = "smtp" } }, letter.history)
  end)

  it("numbers them and takes any error", function()
    assert.equal(1, t.q.dead:push "a")
    assert.equal(2, t.q.dead:push("b", { error = 404, group = "http" }))
    local a, b = t.q.dead:get(1), t.q.dead:get(2)
    assert.same({ nil, 0, 1 }, { a.error, a.failures, a.attempts })
    assert.same({ "404", "http" }, { b.error, b.group })
  end)

  it("is counted by the queue, and passes its bounds", function()
    assert(t.q:push "fills the queue")
    assert(t.q.dead:push("x", { error = "e" }))
    local s = t.q:stats()
    assert.same({ 2, 1, 1, 1, 1 },
                { s.pushed, s.died, s.ready, s.dead, s.died_by.rejected })
    assert.same({ "fills the queue" }, payloads(t.q))
  end)

  it("is replayed to its queue, with its key", function()
    assert(t.q.dead:push("x", { key = "k", attempts = 4 }))
    assert.equal("NOT_FOUND", (select(3, t.q:get { key = "k" })))
    assert(t.q.dead:retry(1))
    local item = assert(t.q:get { key = "k" })
    assert.same({ "x", 0, 1 }, { item.payload, item.attempts, item.replays })
    assert.equal(0, t.q.dead:count())
  end)

  it("goes to a DLQ of a queue that is named", function()
    local mails = assert(t.store:queue "mails")
    local dead = t.store:dead "elsewhere"
    assert.equal(1, dead:push("x", { queue = mails, error = "e" }))
    assert.equal("mails", dead:get(1).queue)
    assert.same({ 0, 1 }, { mails.dead:count(), mails:stats().died })
    assert(dead:retry(1))
    assert.same({ "x" }, payloads(mails))
  end)

  it("is told to on_dead", function()
    local seen = {}
    t:queue { on_dead = function(death)
      seen[#seen + 1] = death.item.payload
    end }
    assert(t.q.dead:push("x", { error = "e" }))
    assert.same({ "x" }, seen)
  end)

  it("leaves a large payload whole", function()
    local large = ("x"):rep(300000)
    assert(t.q.dead:push(large, { error = "e" }))
    assert.equal(large, t.q.dead:get(1).payload)
    assert(t.q.dead:retry(1))
    assert.same({ large }, payloads(t.q))
  end)

  it("refuses what is wrong", function()
    local dead = t.store:dead "elsewhere"
    assert.error_matches(function() t.q.dead:push(nil) end,
                         "bad argument #1 to 'push'")
    assert.error_matches(function() dead:push("x", {}) end,
                         "dead:push: option 'queue' is missing")
    assert.error_matches(function() t.q.dead:push("x", { attempts = -1 }) end,
                         "dead:push: option 'attempts' must be a whole number")
    local other = queue_of.new()
    assert.error_matches(function() t.q.dead:push("x", { queue = other.q }) end,
                         "dead:push: queue 'orders' is of another store")
    assert.equal(0, t.q.dead:count())
  end)
end)
