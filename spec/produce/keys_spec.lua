-- SPDX-License-Identifier: MIT
--
-- Keys: at most one item of a queue holds a key. It is held until
-- the item is over, or for a window.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local respool = require "respool"
local payloads = helper.payloads

local t

local function push(payload, key, on_conflict, dedup)
  return t.q:push(payload, { key = key, on_conflict = on_conflict,
                             dedup = dedup })
end

local function take(settle)
  local batch = assert(t.q:take())
  assert.equal(1, #batch)
  batch[settle](batch)
  assert(batch:settle())
end

before_each(function()
  t = queue_of.new {
    retry = respool.backoff.constant { delay = 5 }, max_attempts = 2,
  }
end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

describe("a key", function()
  it("is told by items and dead letters", function()
    assert(push("a", "k"))
    assert.equal("k", t.q:peek()[1].key)
    assert.equal("k", t.q:get(1).key)
    local batch = assert(t.q:take())
    assert.equal("k", batch:item(1).key)
    batch:dead()
    assert(batch:settle())
    assert.equal("k", t.q.dead:oldest().key)
  end)

  it("names its item", function()
    assert(t.q:push "other")
    assert(push("a", "k"))
    assert.equal(2, assert(t.q:get { key = "k" }).id)
    assert.equal("a", t.q:get({ key = "k" }).payload)
    local item, message, code = t.q:get { key = "no such" }
    assert.is_nil(item)
    assert.equal("no item of queue 'orders' holds this key", message)
    assert.equal("NOT_FOUND", code)
    assert.is_true(t.q:remove { key = "k" })
    assert.same({ "NOT_FOUND", "NOT_FOUND" }, {
      (select(3, t.q:get { key = "k" })), (select(3, t.q:remove { key = "k" })),
    })
    assert.same({ "other" }, payloads(t.q))
  end)

  it("names the item that replaced another", function()
    assert(push("a", "k"))
    assert(push("b", "k", "replace"))
    assert.equal("b", t.q:get({ key = "k" }).payload)
  end)

  it("names nothing once its item is over, though its window goes on",
     function()
    assert(push("a", "k", nil, 60))
    take "done"
    assert.equal("NOT_FOUND", (select(3, t.q:get { key = "k" })))
    assert.equal("EXISTS", (select(3, push("b", "k"))))
  end)

  it("names no item that has expired", function()
    assert(t.q:push("a", { key = "k", ttl = 5 }))
    t.store:advance(6)
    assert.equal("NOT_FOUND", (select(3, t.q:get { key = "k" })))
  end)

  it("does not remove a leased item", function()
    assert(push("a", "k"))
    local batch = assert(t.q:take())
    assert.equal("leased", t.q:get({ key = "k" }).state)
    assert.equal("BUSY", (select(3, t.q:remove { key = "k" })))
    batch:close()
  end)

  it("is checked where it names an item", function()
    assert.error_matches(function() t.q:get { key = "" } end,
      "queue:get: option 'key' must be a string of 1 to 255 bytes")
    assert.error_matches(function() t.q:remove { key = ("k"):rep(256) } end,
      "queue:remove: option 'key' must be a string of 1 to 255 bytes")
    assert.error_matches(function() t.q:get {} end,
      "queue:get: option 'key' is missing")
    assert.error_matches(function() t.q:get "k" end, "bad argument #1 to 'get'")
  end)

  it("makes a second push fail", function()
    assert.equal(1, push("a", "k"))
    local id, message, code = push("b", "k")
    assert.is_nil(id)
    assert.matches("item 1 of queue 'orders' holds this key", message)
    assert.equal("EXISTS", code)
    id, message, code = push("b", "k", "fail")
    assert.is_nil(id)
    assert.is_string(message)
    assert.equal("EXISTS", code)
    assert.same({ "a" }, payloads(t.q))
  end)

  it("lets a second push be ignored, and tells of whom", function()
    assert(t.q:push "other")
    assert.same({ 2 }, { push("a", "k", "ignore") })
    assert.same({ 2, "exists" }, { push("b", "k", "ignore") })
    assert.same({ "other", "a" }, payloads(t.q))
    assert.equal(2, t.q:stats().pushed)
  end)

  it("lets a second push replace the first", function()
    assert.equal(1, push("a", "k"))
    assert.equal(2, push("b", "k", "replace"))
    assert.same({ "b" }, payloads(t.q))
    assert.equal(1, t.q:stats().removed)
  end)

  it("is one queue's own", function()
    assert(push("a", "k"))
    local other = assert(t.store:queue "others")
    assert.equal(1, other:push("a", { key = "k" }))
  end)

  it("is not another key", function()
    for _, key in ipairs { "k", "K", "k ", "\0", ("k"):rep(255) } do
      assert(push(key, key))
    end
    assert.equal(5, t.q:length().ready)
  end)

  it("is free again once its item is done", function()
    assert(push("a", "k"))
    take "done"
    assert.equal(2, push("b", "k"))
  end)

  it("is free again once its item is dead, dropped or removed", function()
    assert(push("a", "k"))
    take "dead"
    assert(push("b", "k"))
    take "drop"
    local id = assert(push("c", "k"))
    assert(t.q:remove(id))
    assert(push("d", "k"))
    assert(t.q:purge())
    assert(push("e", "k"))
  end)

  it("is free again once its item has expired", function()
    assert(t.q:push("a", { key = "k", ttl = 5 }))
    t.store:advance(6)
    assert.equal(0, #assert(t.q:take()))
    assert(push("b", "k"))
  end)

  -- Both were lost: the new item was refused, the old one never delivered.
  for _, how in ipairs { "fail", "ignore", "replace" } do
    it("is not held by what has expired, on " .. how, function()
      assert(t.q:push("a", { key = "k", ttl = 5 }))
      t.store:advance(5)
      assert.same({ 2 }, { push("b", "k", how) })
      assert.same({ "b" }, payloads(t.q))
      assert.same({ a = "expired" }, helper.reasons(t.q.dead))
      local stats = t.q:stats()
      assert.same({ 1, 0 }, { stats.expired, stats.removed })
      assert.equal("EXISTS", helper.code(push("c", "k")))
    end)
  end

  it("is not held by what has expired and is dropped", function()
    t:queue { on_expire = "drop" }
    assert(t.q:push("a", { key = "k", ttl = 5, delay = 60 }))
    t.store:advance(5)
    assert.equal(2, push("b", "k", "ignore"))
    assert.same({ 1, 0 }, { t.q:stats().expired, t.q.dead:count() })
  end)

  it("is not held by what expired while it waited, with its history",
     function()
    assert(t.q:push("a", { key = "k", ttl = 5 }))
    local batch = assert(t.q:take())
    batch:retry { delay = 60, error = "down" }
    assert(batch:settle())
    t.store:advance(5)
    assert.equal(2, push("b", "k"))
    local dead_letter = t.q.dead:oldest()
    assert.same({ "expired", 1, "down" },
                { dead_letter.reason, dead_letter.attempts, dead_letter.error })
  end)

  it("is held by a leased item that has expired, until its lease ends",
     function()
    assert(t.q:push("a", { key = "k", ttl = 5 }))
    local batch = assert(t.q:take())
    t.store:advance(6)
    assert.same({ 1, "exists" }, { push("b", "k", "ignore") })
    assert.equal("EXISTS", helper.code(push("b", "k")))
    batch:release()
    assert(batch:settle())
    assert.equal(2, push("b", "k", "ignore"))
    assert.same({ a = "expired" }, helper.reasons(t.q.dead))
  end)

  it("is not held by one of several that expired together", function()
    t:queue { ordered = true }
    for _, key in ipairs { "i", "j", "k" } do
      assert(t.q:push(key, { key = key, ttl = 5 }))
    end
    t.store:advance(5)
    assert.equal(4, push("new", "j", "ignore"))
    assert.same({ j = "expired" }, helper.reasons(t.q.dead))
    assert.same({ "new" }, payloads(assert(t.q:take { limit = 9 })))
    assert.equal(3, t.q.dead:count())
  end)

  it("is free once its item was ended by a push that was refused", function()
    t:queue { max_items = 1 }
    assert(t.q:push("a", { key = "k", ttl = 5 }))
    t.store:advance(5)
    t:queue { max_items = 0 }
    assert.equal("FULL", helper.code(push("b", "k", "replace")))
    t:queue { max_items = 1 }
    assert.equal(2, push("b", "k"))
  end)

  it("is free in a transaction, too, once its item has expired", function()
    assert(t.q:push("a", { key = "k", ttl = 5 }))
    t.store:advance(5)
    assert(t.store:transaction(function(tx)
      tx:push(t.q, "b", { key = "k", on_conflict = "ignore" })
    end))
    assert.same({ "b" }, payloads(t.q))
  end)

  it("is held while its item is leased or waits", function()
    assert(push("a", "k"))
    local batch = assert(t.q:take())
    local _, _, code = push("b", "k")
    assert.equal("EXISTS", code)
    batch:retry()
    assert(batch:settle())
    _, _, code = push("b", "k")
    assert.equal("EXISTS", code)
    assert.equal(1, t.q:length().retrying)
  end)

  it("is held by a delayed item", function()
    assert(t.q:push("a", { key = "k", delay = 60 }))
    assert.same({ 1, "exists" }, { push("b", "k", "ignore") })
    assert.equal(2, push("c", "k", "replace"))
    assert.same({ "c" }, payloads(t.q))
  end)

  it("passes from a leased item to the one that replaces it", function()
    assert(push("a", "k"))
    local batch = assert(t.q:take())
    assert.equal(2, push("b", "k", "replace"))
    assert.equal(1, t.q:length().leased)
    batch:done()
    assert(batch:settle())
    local _, _, code = push("c", "k")
    assert.equal("EXISTS", code)
    assert.same({ "b" }, payloads(t.q))
  end)

  it("survives the store's closing", function()
    local location = helper.location()
    t.store = assert(helper.open(location))
    t:queue()
    assert(push("a", "k"))
    t.store:close()
    t.store = assert(helper.open(location))
    t:queue()
    assert.same({ 1, "exists" }, { push("b", "k", "ignore") })
  end)

  it("is found among many", function()
    local many = {}
    for i = 1, 2000 do many[i] = i end
    assert(push("a", "k"))
    assert(t.q:push_many(many))
    assert.same({ 1, "exists" }, { push("b", "k", "ignore") })
    assert(push("c", "k", "replace"))
    assert.equal(2001, t.q:length().ready)
  end)

  it("goes along with the pushes of a settle", function()
    local batch
    assert(t.q:push "work")
    batch = assert(t.q:take())
    batch:done()
    assert(batch:settle {
      push = { { queue = t.q, payload = "a", key = "k" } },
    })
    assert(t.q:push "work")
    batch = assert(t.q:take { limit = 2 })
    batch:done()
    local ok, _, code =
      batch:settle { push = { { queue = t.q, payload = "b", key = "k" } } }
    -- the item that holds the key is done in the same commit
    assert.is_true(ok)
    assert.is_nil(code)
    assert.same({ "b" }, payloads(t.q))
  end)
end)

describe("a window", function()
  it("holds a key after its item is done", function()
    assert(push("a", "k", nil, 60))
    take "done"
    t.store:advance(59)
    local _, _, code = push("b", "k")
    assert.equal("EXISTS", code)
    assert.same({ 1, "exists" }, { push("b", "k", "ignore") })
    t.store:advance(1)
    assert.equal(2, push("b", "k"))
  end)

  it("holds the key of an item that has expired", function()
    assert(t.q:push("a", { key = "k", ttl = 5, dedup = 60 }))
    t.store:advance(10)
    assert.same({ 1, "exists" }, { push("b", "k", "ignore") })
    assert.equal("EXISTS", helper.code(push("b", "k")))
    assert.equal(2, push("b", "k", "replace"))
    assert.same({ a = "expired" }, helper.reasons(t.q.dead))
    t.store:advance(60)
    assert.equal("EXISTS", helper.code(push("c", "k")))
  end)

  it("does not free the key of an item that is not over", function()
    assert(push("a", "k", nil, 5))
    t.store:advance(10)
    local _, _, code = push("b", "k")
    assert.equal("EXISTS", code)
  end)

  it("does not keep a push from replacing", function()
    assert(push("a", "k", nil, 60))
    take "done"
    assert.equal(2, push("b", "k", "replace"))
    assert.same({ "b" }, payloads(t.q))
  end)

  it("is begun anew by the push that replaces", function()
    assert(push("a", "k", nil, 60))
    t.store:advance(50)
    assert(push("b", "k", "replace", 60))
    take "done"
    t.store:advance(50)
    local _, _, code = push("c", "k")
    assert.equal("EXISTS", code)
    t.store:advance(10)
    assert(push("c", "k"))
  end)
end)

describe("the key of a dead letter that goes back", function()
  local function die()
    local batch = t.q:take { limit = 9 }
    batch:dead()
    assert(batch:settle())
  end

  it("is held again", function()
    t.q:push("a", { key = "k" })
    die()
    assert.is_true(t.q.dead:retry(1))
    assert.equal("k", t.q:peek()[1].key)
    assert.equal(2, (t.q:push("b", { key = "k", on_conflict = "ignore" })))
    assert.equal("EXISTS", helper.code(t.q:push("b", { key = "k" })))
    take "done"
    assert.equal(3, (t.q:push("b", { key = "k" })))
  end)

  it("is given up when another item holds it", function()
    t.q:push("a", { key = "k" })
    die()
    t.q:push("b", { key = "k" })
    assert.is_true(t.q.dead:retry(1))
    local items = t.q:peek(9)
    assert.equal("k", items[1].key)
    assert.is_nil(items[2].key)
    assert.equal("a", items[2].payload)
    assert.equal(2, (t.q:push("c", { key = "k", on_conflict = "ignore" })))
  end)

  it("is its own as long as its window is open", function()
    t.q:push("a", { key = "k", dedup = 100 })
    die()
    assert.is_true(t.q.dead:retry(1))
    assert.equal("k", t.q:peek()[1].key)
    take "done"
    assert.equal("EXISTS", helper.code(t.q:push("b", { key = "k" })))
    t.store:advance(100)
    assert.equal(3, (t.q:push("b", { key = "k" })))
  end)

  it("is one of each when many go back at once", function()
    for i = 1, 6 do t.q:push(i, { key = i % 2 == 0 and "k" .. i or nil }) end
    die()
    t.q:push("new", { key = "k4" })
    assert.equal(6, t.q.dead:replay().moved)
    local keys = {}
    for item in t.q:each() do keys[item.payload] = item.key or "none" end
    assert.same({ "none", "k2", "none", "none", "none", "k6", new = "k4" },
                keys)
    assert.same({ "new", 1, 2, 3, 4, 5, 6 }, payloads(t.q))
  end)

  -- On PostgreSQL neither knew of the other, and the replay was BUSY for ever.
  it("is held by the first when several of one key go back at once", function()
    for i = 1, 3 do
      push(i, "k")
      take "dead"
    end
    assert.equal(3, t.q.dead:replay().moved)
    assert.equal(3, t.q:length().total)
    local _, _, code = push(4, "k")
    assert.equal("EXISTS", code)
    for _ = 1, 3 do take "done" end
    assert(push(5, "k"))
  end)

  it("is held in the queue that it goes to", function()
    local other = t.store:queue "other"
    other:push("b", { key = "taken" })
    t.q:push("a", { key = "taken" })
    t.q:push("b", { key = "free" })
    die()
    assert.equal(2, t.q.dead:replay { to = other }.moved)
    assert.equal("EXISTS", helper.code(other:push("c", { key = "free" })))
    assert.equal("EXISTS", helper.code(other:push("c", { key = "taken" })))
    assert.equal(3, (t.q:push("c", { key = "taken" })))
  end)
end)

describe("options of a key", function()
  it("need one", function()
    for _, options in ipairs { { on_conflict = "ignore" }, { dedup = 5 } } do
      assert.error_matches(function() t.q:push("x", options) end,
                           "'on_conflict' and 'dedup' need a 'key'")
    end
  end)

  it("are not for many", function()
    assert.error_matches(function()
      t.q:push_many({ "a", "b" }, { key = "k" })
    end, "'key' is for a single push")
  end)

  it("must be what they are", function()
    for option, values in pairs {
      key = { "", 5, ("k"):rep(256), true },
      on_conflict = { "drop", 1 },
      dedup = { -1, "1" },
    } do
      for _, value in ipairs(values) do
        assert.error_matches(function()
          t.q:push("x", { [option] = value })
        end, "queue:push: option '" .. option .. "' must be ")
      end
    end
  end)
end)
