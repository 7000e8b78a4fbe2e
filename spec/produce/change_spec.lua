-- SPDX-License-Identifier: MIT
--
-- Changes of one item that waits or is ready: run now, kill, move, edit.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local respool = require "respool"
local code = helper.code

local WAIT = respool.backoff.constant { delay = 60 }
local t

before_each(function() t = queue_of.new { retry = WAIT } end)

local it = helper.checked(it)

-- The payloads of what is taken, which is done then.
local function take(q, n)
  local batch, list = assert(q:take { limit = n or 100 }), {}
  for payload, item in batch:each() do
    list[#list + 1] = payload
    item:done()
  end
  assert(batch:settle())
  return list
end

local function push(n, given)
  local list = {}
  for i = 1, n do list[i] = { n = i } end
  return assert(t.q:push_many(list, given))
end

local function numbers(list)
  local all = {}
  for i, payload in ipairs(list) do all[i] = payload.n end
  return all
end

-- Every verb on an item that is not there, or leased.
local function refuses(expected, name)
  local other = assert(t.store:queue "other")
  assert.equal(expected, code(t.q:run_now(name)))
  assert.equal(expected, code(t.q:kill(name)))
  assert.equal(expected, code(t.q:move(name, other)))
  assert.equal(expected, code(t.q:edit(name, "x")))
  assert.equal(expected, code(t.q:edit(name, function() return "x" end)))
end

describe("a changed item", function()
  it("is not leased", function()
    local id = push(1)
    local batch = assert(t.q:take())
    refuses("BUSY", id)
    batch:release()
    assert(batch:settle())
    assert.is_true(t.q:kill(id))
  end)

  it("is in the queue", function()
    refuses("NOT_FOUND", 1)
    refuses("NOT_FOUND", { key = "a" })
  end)

  it("has another lease than one that ran out", function()
    local id = push(2)
    assert(t.q:take { limit = 2, lease = 10 })
    t.store:advance(11)
    assert.is_true(t.q:kill(id))
    local dead = assert(t.q.dead:get(1))
    assert.equal(1, dead.crashes)
    assert.same({ 2 }, numbers(take(t.q)))
  end)

  it("is named by its key", function()
    assert(t.q:push({ n = 1 }, { key = "a", delay = 60 }))
    assert.is_true(t.q:edit({ key = "a" }, { n = 2 }))
    assert.is_true(t.q:run_now { key = "a" })
    assert.same({ { n = 2 } }, take(t.q))
  end)
end)

describe("run_now", function()
  it("makes a scheduled item due", function()
    local id = push(1, { delay = 60 })
    assert.is_true(t.q:run_now(id))
    assert.same({ 1 }, numbers(take(t.q)))
  end)

  it("parts one from those that were pushed with it", function()
    local first = push(5, { delay = 60 })
    assert.is_true(t.q:run_now(first + 2))
    t.store:advance(1)
    assert.is_true(t.q:run_now(first))
    assert.same({ 3, 1 }, numbers(take(t.q)))
    assert.same({}, take(t.q))
    t.store:advance(61)
    assert.same({ 2, 4, 5 }, numbers(take(t.q)))
  end)

  it("makes a retrying item due, with what is known of it", function()
    local id = push(3)
    t:fail(3, { error = "no" })
    assert.is_true(t.q:run_now(id + 1))
    local item = assert(t.q:get(id + 1))
    assert.equal("no", item.error)
    assert.equal(1, item.attempts)
    assert.same({ 2 }, numbers(take(t.q)))
    assert.equal(2, t.q:length().retrying)
  end)

  it("leaves a ready item where it is", function()
    local id = push(3)
    assert.is_true(t.q:run_now(id + 1))
    assert.same({ 1, 2, 3 }, numbers(take(t.q)))
  end)
end)

describe("kill", function()
  it("makes a ready item a dead letter", function()
    local id = push(3)
    assert.is_true(t.q:kill(id + 1, { error = "by hand" }))
    local dead = assert(t.q.dead:get(1))
    assert.equal("killed", dead.reason)
    assert.equal("by hand", dead.error)
    assert.same({ n = 2 }, dead.payload)
    assert.equal(id + 1, dead.origin.id)
    assert.same({ 1, 3 }, numbers(take(t.q)))
    assert.equal(1, t.q:stats().died)
  end)

  it("keeps the failures of a retrying item", function()
    local id = push(2)
    t:fail(2, { error = "no" })
    assert.is_true(t.q:kill(id))
    local dead = assert(t.q.dead:get(1))
    assert.equal("no", dead.error)
    assert.equal(1, dead.attempts)
    assert.equal(1, #dead.history)
  end)

  it("frees the key", function()
    assert(t.q:push("a", { key = "k", delay = 9 }))
    assert.is_true(t.q:kill { key = "k" })
    assert(t.q:push("b", { key = "k" }))
    assert.same({ "b" }, take(t.q))
  end)

  it("is told to on_dead", function()
    local seen = {}
    local q = assert(t.store:queue("watched", {
      on_dead = function(death) seen[#seen + 1] = death.item.payload end,
    }))
    assert.is_true(q:kill(assert(q:push "a")))
    assert.same({ "a" }, seen)
  end)

  it("is undone by a replay", function()
    local id = push(1)
    assert.is_true(t.q:kill(id))
    assert(t.q.dead:retry(1))
    assert.same({ 1 }, numbers(take(t.q)))
  end)
end)

describe("move", function()
  local to

  before_each(function() to = assert(t.store:queue "other") end)

  it("pushes the item to another queue and removes it here", function()
    local id = push(3, { priority = 7, headers = { h = 1 } })
    local moved = assert(t.q:move(id + 1, to))
    local item = assert(to:get(moved))
    assert.same({ n = 2 }, item.payload)
    assert.same({ h = 1 }, item.headers)
    assert.equal(7, item.priority)
    assert.equal("orders", item.origin.queue)
    assert.equal(id + 1, item.origin.id)
    assert.same({ 1, 3 }, numbers(take(t.q)))
    assert.same({ 2 }, numbers(take(to)))
    assert.equal(1, t.q:stats().removed)
  end)

  it("keeps its time, attempts and failures", function()
    local id = push(2)
    t:fail(2, { error = "no" })
    local before = assert(t.q:get(id))
    local item = assert(to:get(assert(t.q:move(id, to))))
    assert.equal("retrying", item.state)
    assert.equal(1, item.attempts)
    assert.equal(1, item.deliveries)
    assert.equal("no", item.error)
    assert.near(before.visible_at, item.visible_at, 0.0015)
    t.store:advance(61)
    assert.same({ 1 }, numbers(take(to)))
  end)

  it("keeps its expiry", function()
    local id = push(1, { ttl = 100 })
    t.store:advance(60)
    local item = assert(to:get(assert(t.q:move(id, to))))
    assert.near(t.store:now() + 40, item.expires_at, 0.0015)
  end)

  it("takes the key along", function()
    local id = assert(t.q:push("a", { key = "k", delay = 9 }))
    assert(t.q:move(id, to))
    assert.equal("a", assert(to:get { key = "k" }).payload)
    assert.equal("NOT_FOUND", code(t.q:get { key = "k" }))
    assert(t.q:push("b", { key = "k" }))
  end)

  it("is refused where its key is held", function()
    local id = assert(t.q:push("a", { key = "k" }))
    assert(to:push("b", { key = "k" }))
    assert.equal("EXISTS", code(t.q:move(id, to)))
    assert.same({ "a" }, take(t.q))
  end)

  it("is refused where there is no room", function()
    local id = push(1)
    to = assert(t.store:queue("other", { max_items = 1 }))
    assert(to:push "x")
    assert.equal("FULL", code(t.q:move(id, to)))
    assert.same({ 1 }, numbers(take(t.q)))
    assert.same({ "x" }, take(to))
  end)

  it("is refused by a full queue that buries what is pushed", function()
    to = assert(t.store:queue("other", { max_items = 1, overflow = "dead" }))
    assert(to:push "x")
    local id = push(2)
    t:fail(1)
    assert.equal("FULL", code(t.q:move(id, to)))
    assert.equal("FULL", code(t.q:move(id + 1, to)))
    assert.equal(0, to.dead:count())
    assert.same({ "x" }, take(to))
    t.store:advance(61)
    assert.equal(2, #take(t.q))
  end)

  it("moves a large item", function()
    local id = assert(t.q:push(("x"):rep(50000)))
    assert(t.q:move(id, to))
    assert.same({ ("x"):rep(50000) }, take(to))
  end)

  it("wants another queue of the store", function()
    local id = push(1)
    assert.error_matches(function() return t.q:move(id, t.q) end,
                         "the item is in queue 'orders'")
    assert.error_matches(function() return t.q:move(id, "other") end,
                         "'move' %(a queue expected")
  end)
end)

describe("edit", function()
  it("gives an item another payload in its place", function()
    local id = push(5)
    assert.is_true(t.q:edit(id + 2, { n = 30, of = "me" }))
    assert.same({ n = 30, of = "me" }, assert(t.q:get(id + 2)).payload)
    assert.same({ 1, 2, 30, 4, 5 }, numbers(take(t.q)))
  end)

  it("edits the first, the last, and some that remain", function()
    local id = push(6)
    local batch = assert(t.q:take { limit = 2 })
    batch[1]:done()
    batch[2]:release()
    assert(batch:settle())
    assert.is_true(t.q:edit(id + 1, { n = 20 }))
    assert.is_true(t.q:edit(id + 5, { n = 60 }))
    assert.is_true(t.q:edit(id + 2, { n = 31 }))
    assert.is_true(t.q:edit(id + 2, { n = 30 }))
    assert.same({ 20, 30, 4, 5, 60 }, numbers(take(t.q)))
  end)

  it("keeps all else", function()
    local id = assert(t.q:push("a", {
      key = "k", headers = { h = 1 }, ttl = 100, priority = 3, delay = 9,
    }))
    local before = assert(t.q:get(id))
    assert.is_true(t.q:edit(id, "b"))
    local after = assert(t.q:get { key = "k" })
    assert.equal("b", after.payload)
    before.payload, after.payload = nil, nil
    before.bytes, after.bytes = nil, nil
    assert.same(before, after)
  end)

  it("keeps failures", function()
    local id = push(2)
    t:fail(2, { error = "no" })
    assert.is_true(t.q:edit(id, { n = 10 }))
    assert.equal("no", assert(t.q:get(id)).error)
    assert.equal(1, assert(t.q:get(id)).attempts)
    t.store:advance(61)
    assert.same({ 10, 2 }, numbers(take(t.q)))
  end)

  it("makes small items large and large ones small", function()
    local id = push(3)
    assert.is_true(t.q:edit(id + 1, ("x"):rep(50000)))
    assert.equal(50000, #assert(t.q:get(id + 1)).payload)
    assert.is_true(t.q:edit(id + 1, ("y"):rep(70000)))
    assert.is_true(t.q:edit(id + 1, { n = 2 }))
    assert.same({ 1, 2, 3 }, numbers(take(t.q)))
    assert.equal(0, t.q:stats().bytes)
  end)

  it("ends a lease that ran out, whose batch has the old payload", function()
    local id = push(2)
    local batch = assert(t.q:take { limit = 2, lease = 10 })
    t.store:advance(11)
    assert.is_true(t.q:edit(id, { n = 10 }))
    batch[1]:done()
    assert.equal("LEASE_LOST", code(batch:settle()))
    assert.same({ 10 }, numbers(take(t.q, 1)))
    assert.same({ 2 }, numbers(take(t.q, 1)))
  end)

  it("calls a function with what is there", function()
    local id = push(1)
    assert.is_true(t.q:edit(id, function(payload, item)
      assert.equal(id, item.id)
      return { n = payload.n + 1 }
    end))
    assert.same({ 2 }, numbers(take(t.q)))
  end)

  it("calls the function again when another was faster", function()
    local id = push(1)
    local other, calls = assert(t.store:queue "orders"), 0
    assert.is_true(t.q:edit(id, function(payload)
      calls = calls + 1
      if calls == 1 then assert(other:edit(id, { n = 10 })) end
      return { n = payload.n + 1 }
    end))
    assert.equal(2, calls)
    assert.same({ 11 }, numbers(take(t.q)))
  end)

  it("is refused by its function", function()
    local id = push(1)
    local ok, message = t.q:edit(id, function() return nil, "not this" end)
    assert.is_nil(ok)
    assert.matches("not this", message, 1, true)
    assert.same({ 1 }, numbers(take(t.q)))
  end)

  it("writes in the version of the handle", function()
    local id = push(3)
    local q = assert(t.store:queue("orders", {
      version = 2, upgrade = function(old) return { v = 2, n = old.n } end,
    }))
    assert.is_true(q:edit(id + 1, function(new)
      assert.equal(2, new.v)
      return { v = 2, n = new.n * 10 }
    end))
    assert.equal(2, assert(q:get(id + 1)).version)
    assert.equal(0, assert(q:get(id)).version)
    assert.same({ 1, 20, 3 }, numbers(take(q)))
  end)

  it("is refused where it has no room", function()
    t:queue { max_queue_bytes = 600, retry = WAIT }
    local id = push(1)
    assert.equal("TOO_LARGE", code(t.q:edit(id, ("x"):rep(1000))))
    assert.is_true(t.q:edit(id, ("x"):rep(100)))
    assert(t.q:push(("y"):rep(200)))
    assert.equal("FULL", code(t.q:edit(id, ("x"):rep(400))))
    assert.same({ ("x"):rep(100), ("y"):rep(200) }, take(t.q))
  end)

  it("is smaller where its queue has been full since", function()
    local id = push(2)
    assert(t.q:edit(id, ("x"):rep(200)))
    assert(t.q:edit(id + 1, ("y"):rep(200)))
    t:queue { max_queue_bytes = 300, retry = WAIT }
    assert.equal("FULL", code(t.q:push "z"))
    assert.is_true(t.q:edit(id, ("x"):rep(100)))
  end)

  it("wants a payload", function()
    assert.error_matches(function() return t.q:edit(1) end,
                         "argument #2 to 'edit' %(a payload expected")
  end)
end)
