-- SPDX-License-Identifier: MIT
--
-- Settling: each item of a batch its own outcome, in one commit, along with
-- pushes and the next take.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local respool = require "respool"
local payloads, code = helper.payloads, helper.code

local t

before_each(function()
  t = queue_of.new { retry = respool.backoff.constant { delay = 60 } }
end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

-- A server counts the transactions of others too: it is not asked.
local function assert_one_commit_since(before)
  if helper.engine ~= "lmdb" then return end
  assert.equal(before + 1, t.store:stats().last_txn)
end

local function last_txn()
  return t.store:stats().last_txn
end

-- Outcomes of an item, by their word.
local OUTCOMES = {
  { say = function(item) item:done() end },
  { say = function(item) item:drop { error = "junk" } end },
  { say = function(item) item:dead { error = "bad" } end, dead_letter = "bad" },
  { say = function(item) item:retry { error = "busy" } end,
    state = "retrying", after = 60, attempts = 1, error = "busy" },
  { say = function(item) item:snooze(90) end, state = "scheduled", after = 90 },
  { say = function(item) item:release() end, state = "ready", after = 0 },
  { say = function() end, state = "leased", after = 30 },
}

local function assert_became(id, o, dead_letters)
  local item = t.q:get(id)
  assert.equal(o.dead_letter, dead_letters[id])
  if not o.state then
    assert.is_nil(item)
    return
  end
  assert.equal(o.state, item.state)
  assert.near(t.store:now() + o.after, item.visible_at, 0.01)
  assert.equal(o.attempts or 0, item.attempts)
  assert.same({ 1, 0, "item" }, { item.deliveries, item.crashes,
                                  item.payload })
  assert.equal(o.error, item.error)
end

-- Deals with the batch as `outcomes` says, and looks what became of it.
local function settle_and_look(batch, outcomes)
  for i, o in ipairs(outcomes) do o.say(batch:item(i)) end
  assert.is_true(batch:settle())
  local dead_letters = {}
  for dead_letter in t.q.dead:each() do dead_letters[dead_letter.id] =
    dead_letter.error end
  for i, o in ipairs(outcomes) do
    assert_became(batch:item(i).id, o, dead_letters)
  end
end

-- Calls f with every combination of three outcomes.
local function each_combination(f)
  for _, a in ipairs(OUTCOMES) do
    for _, b in ipairs(OUTCOMES) do
      for _, c in ipairs(OUTCOMES) do f { a, b, c } end
    end
  end
end

describe("outcomes mixed in a batch", function()
  -- The same for what has been pushed in different ways.
  local function in_every_combination(push)
    t.q = assert(helper.open(":memory:", { clock = "manual" })):queue(
      "orders", { retry = respool.backoff.constant { delay = 60 } })
    t.store = t.q.store
    each_combination(function(outcomes)
      push()
      local batch = t.q:take { limit = 3, timeout = 1 }
      assert.equal(3, #batch)
      settle_and_look(batch, outcomes)
      assert.same({}, t.store:check())
      t.store:advance(100)
      t.q:purge()
    end)
  end

  it("hold for items of one push, in every combination", function()
    in_every_combination(function()
      t.q:push_many { "item", "item", "item" }
    end)
  end)

  it("hold for items of several pushes", function()
    in_every_combination(function()
      t.q:push("item", { priority = 2 })
      t.q:push("item", { priority = 2 })
      t.q:push("item", { priority = 1 })
    end)
  end)

  it("hold for items that were delayed", function()
    in_every_combination(function()
      t.q:push_many({ "item", "item", "item" }, { delay = 1 })
    end)
  end)

  for _, verb in ipairs { "retry", "snooze" } do
    it("have each its own delay, also when all are " .. verb, function()
      t.q:push_many { 1, 2, 3 }
      local batch = t:take(3)
      for i = 1, 3 do
        local item, delay, text = batch:item(i), 10 * i, "error " .. i
        if verb == "snooze" then item:snooze(delay) end
        if verb == "retry" then item:retry { delay = delay, error = text } end
      end
      batch:settle()
      for i = 1, 3 do
        assert.near(t.store:now() + 10 * i, t.q:get(i).visible_at, 0.01)
        assert.equal(verb == "retry" and "error " .. i or nil, t.q:get(i).error)
      end
    end)
  end

  it("hold within a large batch of which other items go on", function()
    local list = {}
    for i = 1, 700 do list[i] = "item" end
    t.q:push_many(list)
    local outcomes = {}
    for i = 1, 700 do outcomes[i] = OUTCOMES[i % 7 + 1] end
    settle_and_look(t:take(700), outcomes)
    local n = t.q:length()
    assert.same({ 100, 100, 100, 100, 400 },
                { n.ready, n.leased, n.scheduled, n.retrying, n.total })
  end)
end)

describe("an outcome of a batch", function()
  local VERBS = {
    done = {}, drop = {}, dead = {}, retry = {}, release = {},
    snooze = { 90 },
  }
  local LEFT = {
    done = { 0, 0, 0 }, drop = { 0, 0, 0 }, dead = { 0, 0, 3 },
    retry = { 0, 3, 0 }, release = { 3, 0, 0 }, snooze = { 0, 3, 0 },
  }
  for verb, arguments in pairs(VERBS) do
    it("is that of all its items, marked before or not: " .. verb, function()
      t.q:push_many { 1, 2, 3 }
      local batch = t:take(3)
      batch:item(2):dead { group = "marked" }
      batch[verb](batch, arguments[1])
      assert(batch:settle())
      local left, length = LEFT[verb], t.q:length()
      assert.same(left,
                  { length.ready, length.scheduled + length.retrying,
                    length.dead })
      assert.equal(0, #t.q.dead:list { group = "marked" })
    end)
  end

  it("moves a whole batch in one commit, whatever its size", function()
    local list = {}
    for i = 1, 4000 do list[i] = i end
    t.q:push_many(list)
    local batch, before = t:take(4000), last_txn()
    batch:retry { error = "down" }
    assert(batch:settle())
    assert_one_commit_since(before)
    t.store:advance(60)
    assert.same(list, payloads(t:take(4000)))
  end)
end)

describe("settling a batch bit by bit", function()
  it("leaves what is not marked leased, to be settled later", function()
    t.q:push_many { 1, 2, 3, 4 }
    local batch = t:take(4)
    for i = 1, 4 do
      assert.equal(5 - i, t.q:length().leased)
      batch:item(i):done()
      assert.is_true(batch:settle())
    end
    assert.equal(4, t.q:stats().done)
  end)

  it("does nothing where nothing is marked", function()
    t.q:push_many { 1, 2 }
    local batch = t:take(2)
    assert.is_true(batch:settle())
    assert.equal(2, t.q:length().leased)
  end)

  it("counts an outcome once, however often it is settled", function()
    t.q:push_many { 1, 2 }
    local batch = t:take(2)
    batch:item(1):dead()
    for _ = 1, 3 do assert.is_true(batch:settle()) end
    assert.equal(1, t.q:stats().died)
  end)

  it("loses the rest alone when its lease is lost meanwhile", function()
    t.q:push_many { 1, 2, 3 }
    local batch = t:take(3)
    batch:item(1):done()
    batch:settle()
    t.store:advance(31)
    t:take(3)
    batch:done()
    assert.equal("LEASE_LOST", code(batch:settle()))
    assert.equal(2, batch.lost)
    assert.equal(1, t.q:stats().done)
  end)
end)

describe("outcome, pushes and the next take", function()
  local mails

  before_each(function()
    mails = t.store:queue "mails"
    t.q:push_many { "a", "b", "c" }
  end)

  it("are one commit over several queues", function()
    local batch, before = t:take(2), last_txn()
    batch:item(1):done()
    batch:item(2):dead()
    local ok, more = batch:settle {
      push = { { queue = mails, payload = 1, priority = 7 },
               { queue = t.q, payload = "d" },
               { queue = mails, payload = 2, delay = 5, headers = { h = 1 } } },
      take = { limit = 9 },
    }
    assert.is_true(ok)
    assert_one_commit_since(before)
    assert.same({ "c", "d" }, payloads(more))
    local by_payload = {}
    for item in mails:each() do by_payload[item.payload] = item end
    assert.equal(7, by_payload[1].priority)
    assert.same({ "scheduled", { h = 1 } },
                { by_payload[2].state, by_payload[2].headers })
  end)

  it("give the take what the same settle released", function()
    local batch = t:take(3)
    batch:release()
    local _, more = batch:settle { take = { limit = 2, lease = 5 } }
    assert.same({ "a", "b" }, payloads(more))
    assert.near(t.store:now() + 5, t.q:get(1).visible_at, 0.01)
  end)

  it("give an empty batch when there is nothing more to take", function()
    local batch = t:take(3)
    batch:done()
    local _, more = batch:settle { take = { limit = 2 } }
    assert.is_true(more == nil or #more == 0)
  end)

  it("fail together when the lease was lost", function()
    local stale = t:take(3)
    t.store:advance(31)
    local batch = t:take(1)
    stale:done()
    local push = { { queue = mails, payload = 1 } }
    assert.equal("LEASE_LOST", code(stale:settle { push = push }))
    assert.equal(0, mails:length().total)
    assert.equal(3, t.q:length().total)
    batch:done()
    assert.is_true(batch:settle())
  end)

  -- Two claims in one batch, of which one is delivered anew.
  local function half_lost()
    t.q:push("due", { priority = 9, delay = 1 })
    t.store:advance(1)
    local batch = t:take(4)
    assert.equal(4, #batch)
    t.store:advance(31)
    assert.same({ "due" }, payloads(t:take(4)))
    batch:done()
    return batch
  end

  it("fail together when part of the lease was lost", function()
    local batch, push = half_lost(), { { queue = mails, payload = 1 } }
    assert.equal("LEASE_LOST", code(batch:settle { push = push }))
    assert.equal(1, batch.lost)
    assert.same({ 0, 4 }, { mails:length().total, t.q:length().total })
  end)

  it("hold for the items that are not lost, without pushes", function()
    local batch = half_lost()
    t.q:push "fresh"
    local ok, _, why, more = batch:settle { take = { limit = 9 } }
    assert.is_nil(ok)
    assert.equal("LEASE_LOST", why)
    assert.equal(1, batch.lost)
    assert.same({ "fresh" }, payloads(more))
    assert.equal(3, t.q:stats().done)
  end)

  it("fail together when a queue has no room for a push", function()
    t.store:queue("mails", { max_items = 1 })
    local batch = t:take(3)
    local function push_two()
      batch:done()
      return batch:settle { push = { { queue = t.q, payload = "d" },
                                   { queue = mails, payload = 1 },
                                   { queue = mails, payload = 2 } },
                          take = { limit = 1 } }
    end
    assert.equal("FULL", code(push_two()))
    assert.same({ 3, 0 }, { t.q:length().leased, mails:length().total })
    t.store:queue("mails", { max_items = 2 })
    assert.is_true(push_two())
    assert.same({ 3, 2 }, { t.q:stats().done, mails:length().total })
  end)

  it("fail together when a push is too large", function()
    t.store = helper.store { max_item_bytes = 1000 }
    t.q, mails = t.store:queue "orders", t.store:queue "mails"
    t.q:push "a"
    local batch = t:take()
    batch:done()
    assert.equal("TOO_LARGE", code(batch:settle { push = {
      { queue = mails, payload = 1 },
      { queue = mails, payload = ("x"):rep(2000) } } }))
    assert.same({ 1, 0 }, { t.q:length().leased, mails:length().total })
  end)

  it("push for each item only when that one is done", function()
    local batch = t:take(3)
    for i, item in ipairs { batch:item(1), batch:item(2), batch:item(3) } do
      item:push(mails, i)
    end
    batch:item(1):done()
    batch:item(3):retry()
    batch:settle()
    assert.equal(1, mails:length().total)
    batch:item(2):done()
    batch:settle()
    assert.equal(2, mails:length().total)
  end)
end)

-- Closing the batch committed the item as done, and its push was lost.
describe("a settle whose push is refused", function()
  local full

  before_each(function()
    full = assert(t.store:queue("full", { max_items = 0 }))
    t.q:push "order"
  end)

  local function refused(batch)
    batch:done()
    return batch:settle { push = { { queue = full, payload = "invoice" } } }
  end

  local function assert_released()
    local item = assert(t.q:get(1))
    assert.same({ "ready", 0 }, { item.state, item.attempts })
    assert.equal(0, full:length().total)
  end

  it("leaves the marks unmade: close releases the item", function()
    local batch = t:take()
    assert.equal("FULL", code(refused(batch)))
    assert.is_true(batch:close())
    assert_released()
  end)

  it("leaves them unmade for a later settle", function()
    local batch = t:take()
    refused(batch)
    assert.is_true(batch:settle())
    assert.equal(1, t.q:length().leased)
    assert.error_matches(function()
      batch:settle { push = { { queue = t.q, payload = 1 } } }
    end, "no item is marked")
    batch:close()
    assert_released()
  end)

  it("releases the item when the error leaves the scope", function()
    local leave = getmetatable(t:take()).__close
    t.store:advance(31)
    local batch = t:take()
    local _, message = refused(batch)
    leave(batch, message)
    assert.equal("ready", t.q:get(1).state)
  end)

  it("releases the item when the store is closed", function()
    refused(t:take())
    assert.is_true(t.store:close())
    t:reopen()
    full = assert(t.store:queue "full")
    assert_released()
  end)
end)

describe("a batch whose scope an error leaves", function()
  it("releases what is marked", function()
    t.q:push_many { 1, 2 }
    local batch = t:take(2)
    batch:done()
    getmetatable(batch).__close(batch, "an error")
    assert.same({ 2, 0 }, { t.q:length().ready, t.q:stats().done })
  end)
end)

describe("a batch as a sequence", function()
  it("has its items by number", function()
    t.q:push_many { "a", "b" }
    local batch = t:take(2)
    assert.same({ "a", "b" }, { batch[1].payload, batch[2].payload })
    assert.equal(batch[1], batch:item(1))
    assert.is_nil(batch[3])
    assert.is_nil(batch[0])
    batch:close()
  end)

  it("decodes a payload once", function()
    t.q:push { n = 1 }
    local batch = t:take()
    local item = batch[1]
    item.payload.n = 5
    assert.equal(5, batch[1].payload.n)
    batch:close()
  end)

  it("refuses names that it does not have", function()
    t.q:push(1)
    local batch = t:take()
    assert.error_matches(function() return batch.items end,
                         "a batch has no field 'items'; did you mean 'item'?",
                         1, true)
    assert.error_matches(function() return batch[1].payloda end,
                         "an item has no field 'payloda'; did you mean "
                         .. "'payload'?", 1, true)
    batch:close()
  end)

  it("refuses them of stored, dead and finished items too", function()
    t:queue { keep_done = 60 }
    t.q:push_many { 1, 2, 3 }
    t:done(1)
    t:settle(1, "dead")
    for what, of in pairs {
      ["an item"] = t.q:peek()[1], ["a dead letter"] = t.q.dead:oldest(),
      ["a finished item"] = t.q.history:list()[1],
    } do
      assert.is_nil(of.key)
      assert.error_matches(function() return of.payloda end,
        what .. " has no field 'payloda'; did you mean 'payload'?", 1, true)
    end
  end)
end)

describe("what is printed", function()
  it("of an item or a dead letter says what it is", function()
    t.q:push_many { 1, 2 }
    t.q:push(3, { delay = 60 })
    assert.equal("respool item 1 of orders (ready)", tostring(t.q:peek()[1]))
    assert.equal("respool item 3 of orders (scheduled)", tostring(t.q:get(3)))
    local batch = t:take()
    assert.equal("respool item 1 of orders", tostring(batch[1]))
    batch:dead()
    batch:settle()
    for _, dead in ipairs { t.q.dead:oldest(), t.q.dead:get(1) } do
      assert.equal("respool dead letter 1 of orders (rejected)",
                   tostring(dead))
    end
  end)
end)

describe("a lease that a settle has found lost", function()
  -- The second settle and extend answered true, with nothing lost.
  it("stays lost for every later settle and extend", function()
    t.q:push_many { 1, 2 }
    local batch = t:take(2)
    t.store:advance(31)
    local other = t:take(2)
    batch:done()
    for _ = 1, 2 do
      assert.equal("LEASE_LOST", code(batch:settle()))
      assert.equal(2, batch.lost)
      assert.equal("LEASE_LOST", code(batch:extend()))
    end
    assert.equal(2, t.q:stats().lease_lost)
    other:close()
  end)
end)

describe("an error and its group", function()
  local texts = { "a\0b", "\0", "\255\0\1", "ä\0€" }

  -- They were C strings on their way to the core.
  it("may hold any byte", function()
    t.q:push_many(texts)
    local batch = t:take(#texts)
    for i, text in ipairs(texts) do
      batch:item(i):dead { error = text, group = text }
    end
    assert(batch:settle())
    for i, text in ipairs(texts) do
      local dead = t.q.dead:get(i)
      assert.same({ text, text, text },
                  { dead.error, dead.group, dead.history[1].error })
      local found = {}
      for d in t.q.dead:each { group = text } do
        found[#found + 1] = d.number
      end
      assert.same({ i }, found)
    end
    assert.equal(#texts, #t.q.dead:groups())
    assert.equal(1, t.q.dead:purge { group = "a\0b" })
  end)

  it("are cut to 1 KiB at a whole character", function()
    t.q:push(1)
    local text = ("x"):rep(1022) .. "€"
    local batch = t:take()
    batch:item(1):dead { error = text, group = text }
    assert(batch:settle())
    local dead = t.q.dead:oldest()
    assert.same({ 1022, 1022 }, { #dead.error, #dead.group })
  end)
end)

describe("a batch that is left behind", function()
  it("is settled as marked and else released when closed", function()
    t.q:push_many { 1, 2, 3 }
    local batch = t:take(3)
    batch:item(2):dead()
    assert.is_true(batch:close())
    assert.same({ 2, 0, 1 },
                { t.q:length().ready, t.q:length().leased, t.q:length().dead })
    assert.same({ 0, 0 }, { t.q:get(1).attempts, t.q:get(1).crashes })
  end)

  it("answers LEASE_LOST when closed too late", function()
    t.q:push(1)
    local batch = t:take()
    t.store:advance(31)
    t:take()
    assert.equal("LEASE_LOST", code(batch:close()))
    assert.equal(1, t.q:length().leased)
  end)

  it("settles nothing as garbage: its lease runs out", function()
    t.q:push_many { 1, 2 }
    t:take(2):item(1):done()
    collectgarbage()
    collectgarbage()
    assert.equal(2, t.q:length().leased)
    t.store:advance(30)
    assert.equal(2, t.q:length().ready)
    assert.equal(1, t:take():item(1).crashes)
  end)

  it("is settled when the store is closed", function()
    t.q:push_many { 1, 2, 3 }
    local batches = { t:take(2), t:take() }
    batches[1]:item(2):done()
    batches[2]:retry()
    assert.is_true(t.store:close())
    t.store = assert(helper.open(t.store.path, { clock = "manual" }))
    t.q = t.store:queue "orders"
    assert.same({ "ready", 0 }, { t.q:get(1).state, t.q:get(1).attempts })
    assert.equal("NOT_FOUND", code(t.q:get(2)))
    assert.equal(1, t.q:get(3).attempts)
  end)
end)
