-- SPDX-License-Identifier: MIT

local helper = require "spec.helper"
local respool = require "respool"

local huge, nan = math.huge, 0 / 0
local memory = ":memory:"

-- Every wrong value of an option raises, naming function and option.
local function refuses(of, f, wrong)
  for option, values in pairs(wrong) do
    for _, value in ipairs(values) do
      it(("refuses %s = %s"):format(option, tostring(value)), function()
        assert.error_matches(function() f { [option] = value } end,
                             of .. ": option '" .. option .. "' must be ")
      end)
    end
  end
  it("refuses an option it does not know", function()
    assert.error_matches(function() f { snyc = 1 } end,
                         of .. ": unknown option 'snyc'")
  end)
  it("refuses options that are no table", function()
    assert.error_matches(function() f "fast" end, "table of options expected")
  end)
end

local function queue()
  return assert(helper.store():queue "orders")
end

describe("respool.open", function()
  refuses("respool.open", function(o) respool.open(memory, o) end, {
    sync = { "often", 1, true },
    create = { 1, "yes" },
    clock = { "wall", 5, false },
    max_readers = { 0, -1, 1.5, "many", huge },
    max_bytes = { -1, 0, "64kib", "KiB", "1 e3", true, huge, nan },
    max_item_bytes = { -1, 0, "much", {} },
    seed = { -1, 0.5, "x", huge },
  })

  it("refuses a path that is none", function()
    for _, path in ipairs { "", "a\0b", 5, true } do
      assert.error_matches(function() respool.open(path) end,
                           "bad argument #1 to 'open' %(a path expected")
    end
  end)

  it("raises at the line of the caller", function()
    local _, message = pcall(function() respool.open(memory, { a = 1 }) end)
    assert.matches("module_spec.lua:%d+: respool.open", message)
  end)

  it("takes sizes in words", function()
    local store = helper.store { max_bytes = "64MiB" }
    assert.equal(64 * 2^20, store:stats().max_bytes)
    store = helper.store { max_bytes = "1.5GB" }
    assert.equal(1.5e9, store:stats().max_bytes)
  end)

  it("keeps nothing in :memory:", function()
    local store = assert(helper.open(memory, { sync = "none" }))
    assert(assert(store:queue "q"):push(1))
    store:close()
    store = assert(helper.open(memory))
    assert.same({}, store:queues())
  end)

  it("lets nothing but :memory: go unflushed", function()
    assert.error_matches(function()
      respool.open(helper.location(), { sync = "none" })
    end, "but for ':memory:'")
  end)

  it("says that there is no store when it must not make one", function()
    local store, message, code =
      respool.open(helper.location(), { create = false })
    assert.is_nil(store)
    assert.is_string(message)
    assert.equal("NOT_FOUND", code)
  end)

  it("says that a file is no store", function()
    local path = helper.dir() .. "/file"
    helper.write(path, "text")
    local store, message, code = respool.open(path)
    assert.is_nil(store)
    assert.is_string(message)
    assert.equal("IO", code)
  end)
end)

describe("a store", function()
  it("lists and drops its queues", function()
    local store = helper.store()
    assert(store:queue "b")
    assert(store:queue "a")
    assert.same({ "a", "b" }, store:queues())
    assert(store:drop_queue "a")
    assert.same({ "b" }, store:queues())
    local _, _, code = store:drop_queue "a"
    assert.equal("NOT_FOUND", code)
  end)

  it("has a clock that only it moves", function()
    local store = helper.store()
    local before = store:now()
    assert.equal(before, store:now())
    assert(store:advance(1.5))
    assert.near(before + 1.5, store:now(), 1e-4)
    assert.error_matches(function() store:advance(nan) end, "bad argument #1")
    assert.error_matches(function() store:advance "1" end, "bad argument #1")
  end)

  it("does not move the wall clock", function()
    local store = assert(helper.open(memory))
    assert.error_matches(function() store:advance(1) end, "must be manual")
  end)

  it("tells its name and whether it is closed", function()
    local store = helper.store()
    local q = store:queue "orders"
    assert.equal("respool store " .. store.path, tostring(store))
    assert.equal("respool queue orders", tostring(q))
    store:close()
    assert.matches("%(closed%)$", tostring(store))
    assert.matches("%(closed%)$", tostring(q))
  end)

  it("finds nothing wrong with itself", function()
    local store = helper.store()
    assert(store:queue "q"):push_many { 1, 2, 3 }
    assert.same({}, store:check())
  end)

  it("flushes", function()
    local store = helper.store { sync = "relaxed" }
    assert(assert(store:queue "q"):push(1))
    assert.is_true(store:flush())
  end)
end)

describe("a closed store", function()
  local store, q, batch

  before_each(function()
    store = helper.store()
    q = store:queue "orders"
    q:push_many { 1, 2 }
    batch = q:take { limit = 2 }
    assert.is_true(store:close())
  end)

  it("may be closed again", function()
    assert.is_true(store:close())
  end)

  it("refuses everything else, and so does what belonged to it", function()
    local function refuses_use(noun, f)
      local ok, message = pcall(f)
      assert.is_false(ok)
      assert.matches("module_spec.lua:%d+: attempt to use a closed " .. noun,
                     message)
    end
    refuses_use("store", function() store:queue "x" end)
    refuses_use("store", function() store:now() end)
    refuses_use("store", function() q.dead:count() end)
    refuses_use("queue", function() q:push(1) end)
    refuses_use("queue", function() q:take() end)
    refuses_use("queue", function() q:work(print) end)
    refuses_use("batch", function() batch:done() end)
    refuses_use("batch", function() batch:item(1) end)
    refuses_use("batch", function() return #batch end)
  end)

  it("has settled what was marked and released the rest", function()
    local path = store.path
    store = assert(helper.open(path))
    q = store:queue "orders"
    batch = q:take { limit = 2 }
    local first = batch:item(1)
    first:done()
    store:close()
    store = assert(helper.open(path))
    assert.same({ ready = 1, leased = 0, scheduled = 0, retrying = 0,
                  dead = 0, total = 1 },
                store:queue "orders":length())
  end)

  it("survives the collector in any order", function()
    store, q, batch = nil, nil, nil
    collectgarbage()
    collectgarbage()
  end)
end)

describe("store:queue", function()
  local store
  before_each(function() store = helper.store() end)

  refuses("store:queue", function(o) store:queue("orders", o) end, {
    lease = { -1, nan, huge, "30", true },
    max_lease = { -1, nan, "1x" },
    max_attempts = { 0, -1, 1.5, nan, "5" },
    max_crashes = { 0, 2.5, "3" },
    retry = { "fast", {}, 5 },
    on_exhausted = { "gone", {}, { cooldown = -1 },
                     { cooldown = 1, dead = true }, 1 },
    ttl = { -1, nan, "d1" },
    on_expire = { "keep", true, {} },
    ordered = { 1, "yes" },
    max_items = { -1, 0.5, "10" },
    max_queue_bytes = { 0, -1, "batches" },
    overflow = { "drop", 1, true },
    keep_done = { -1, "1 day", {}, { days = 1 }, { seconds = -1 },
                  { seconds = 1, days = 1 }, true },
    keep_dead = { -1, nan, "1 d" },
    dead_letter = { "", ("x"):rep(256), 5 },
    decide = { "dead", {} },
    validate = { "string", true },
    codec = { "json", {}, { name = "x" }, 5 },
  })

  it("refuses names that are none", function()
    for _, name in ipairs { "", ("x"):rep(256), "a\0b", 5, true } do
      assert.error_matches(function() store:queue(name) end,
                           "bad argument #1 to 'queue' %(a name of 1 to 255")
    end
  end)

  it("takes a name of 255 bytes", function()
    assert(store:queue(("x"):rep(255)))
  end)

  it("keeps its policy in the store", function()
    local retry = respool.backoff.linear { initial = 2, step = 3, max = 9 }
    store:queue("orders", {
      lease = 12.5, max_attempts = 7, max_crashes = huge, ttl = 60,
      on_exhausted = { cooldown = 4 }, on_expire = "drop", ordered = true,
      max_items = 10, max_queue_bytes = "1MiB", dead_letter = "morgue",
      retry = retry, max_lease = 100, overflow = "drop_oldest",
      weights = { [9] = 5, [0] = 1 }, keep_done = "1GiB", keep_dead = 3600,
    })
    assert.same({
      lease = 12.5, max_attempts = 7, max_crashes = huge, ttl = 60,
      on_exhausted = { cooldown = 4 }, on_expire = "drop", ordered = true,
      max_items = 10, max_queue_bytes = 2^20, dead_letter = "morgue",
      retry = { name = "linear", initial = 2, step = 3, max = 9,
                jitter = "none" },
      max_lease = 100, overflow = "drop_oldest", weights = { [9] = 5, [0] = 1 },
      keep_done = { seconds = huge, bytes = 2^30 }, keep_dead = 3600,
    }, store:queue "orders":config())
  end)

  it("can be given what it is told of its policy", function()
    for _, retry in ipairs {
      respool.backoff.constant { delay = "90s", jitter = 0.25 },
      respool.backoff.linear { step = 3 }, respool.backoff.exponential(),
      respool.backoff.polynomial { power = 3 }, respool.backoff.fibonacci(),
      respool.backoff.list { 1, "5m", jitter = "full" },
      respool.backoff.decorrelated { max = 60 },
    } do
      local told = assert(store:queue("orders", {
        retry = retry, keep_done = "1h", max_lease = huge,
      })):config()
      assert.same(told, assert(store:queue("again", told)):config())
    end
  end)

  it("takes lengths of time as text", function()
    local config = assert(store:queue("orders", {
      lease = "90s", ttl = "1h30m", keep_dead = "30d",
      on_exhausted = { cooldown = "250ms" },
    })):config()
    assert.same({ 90, 5400, 30 * 86400, { cooldown = 0.25 } },
      { config.lease, config.ttl, config.keep_dead, config.on_exhausted })
  end)

  it("leaves what is not given as it was", function()
    store:queue("orders", { lease = 12, ordered = true })
    store:queue("orders", { max_attempts = 2 })
    local config = store:queue "orders":config()
    assert.equal(12, config.lease)
    assert.is_true(config.ordered)
    assert.equal(2, config.max_attempts)
  end)

  it("has the defaults that the manual tells", function()
    local config = store:queue "orders":config()
    assert.equal(30, config.lease)
    assert.equal(5, config.max_attempts)
    assert.equal(3, config.max_crashes)
    assert.equal(huge, config.ttl)
    assert.equal("dead", config.on_exhausted)
    assert.equal("orders", config.dead_letter)
    assert.equal("exponential", config.retry.name)
    assert.equal("full", config.retry.jitter)
  end)
end)

describe("queue:push", function()
  local q
  before_each(function() q = queue() end)

  refuses("queue:push", function(o) q:push(1, o) end, {
    priority = { -1, 256, 1.5, "high" },
    delay = { -1, nan, huge, "1" },
    at = { -1, nan, huge },
    ttl = { -1, nan, "1" },
    headers = { 5, "x" },
    timeout = { -1, nan, "1" },
  })

  it("returns ids that rise", function()
    assert.equal(1, q:push "a")
    assert.equal(2, q:push "b")
  end)

  it("refuses to push nothing", function()
    assert.error_matches(function() q:push() end,
                         "bad argument #1 to 'push' %(a payload expected")
  end)

  it("refuses what has no CBOR form, and names where", function()
    assert.error_matches(function() q:push { a = { print } } end, "function")
    assert.error_matches(function()
      q:push(1, { headers = { f = print } })
    end, "function")
    assert.equal(0, q:length().total)
  end)

  it("refuses two times at once", function()
    assert.error_matches(function() q:push(1, { delay = 1, at = 2 }) end,
                         "'delay' and 'at' exclude each other")
  end)

  it("gives back any value", function()
    local values = { 1, -1, 0.5, "text", "\255", true, false,
                     { a = { 1, 2 } }, respool.null }
    q:push_many(values)
    local seen = {}
    for payload in q:take { limit = 20 }:each() do
      table.insert(seen, payload)
    end
    assert.same(values, seen)
  end)

  it("gives back headers and priority", function()
    q:push(1, { headers = { trace = "t" }, priority = 9 })
    local it = q:take():item(1)
    assert.same({ trace = "t" }, it.headers)
    assert.equal(9, it.priority)
  end)

  it("waits with what is delayed", function()
    q:push("later", { delay = 10 })
    q:push("then", { at = q.store:now() + 20 })
    assert.equal(2, q:length().scheduled)
    q.store:advance(10)
    assert.equal("later", q:take():item(1).payload)
    q.store:advance(10)
    assert.equal("then", q:take():item(1).payload)
  end)

  it("reports a full queue as a value", function()
    q = q.store:queue("orders", { max_items = 1 })
    assert(q:push(1))
    local id, message, code = q:push(2)
    assert.is_nil(id)
    assert.matches("orders", message)
    assert.equal("FULL", code)
  end)

  it("reports an item that is too large", function()
    q = helper.store { max_item_bytes = 100 }:queue "orders"
    local _, _, code = q:push(("x"):rep(200))
    assert.equal("TOO_LARGE", code)
    assert.equal(0, q:length().total)
  end)
end)

describe("queue:push_many", function()
  local q
  before_each(function() q = queue() end)

  it("returns the first id and how many", function()
    q:push "a"
    assert.same({ 2, 3 }, { q:push_many { "b", "c", "d" } })
  end)

  it("refuses an empty list, and what is no list", function()
    for _, list in ipairs { {}, 5, "x" } do
      assert.error_matches(function() q:push_many(list) end,
                           "bad argument #1 to 'push_many'")
    end
  end)

  it("pushes all or nothing", function()
    assert.has_error(function() q:push_many { 1, 2, print } end)
    assert.equal(0, q:length().total)
  end)
end)

describe("a check", function()
  it("refuses a push with its own message", function()
    local q = helper.store():queue("orders", { validate = function(order)
      if not order.sku then error("an order needs a sku", 0) end
    end })
    assert.error_matches(function() q:push {} end, "an order needs a sku")
    assert.error_matches(function() q:push_many { { sku = 1 }, {} } end,
                         "an order needs a sku")
    assert.equal(0, q:length().total)
    assert(q:push { sku = "A-1" })
  end)
end)

describe("a codec", function()
  it("raw stores the bytes as they are", function()
    local q = helper.store():queue("orders", { codec = "raw" })
    q:push_many { "a\0b", "" }
    local batch = q:take { limit = 2 }
    assert.equal("a\0b", batch:item(1).payload)
    assert.equal("", batch:item(2).payload)
    assert.error_matches(function() q:push(5) end, "must be a string")
  end)

  it("of the user's own is used both ways", function()
    local q = helper.store():queue("orders", { codec = {
      name = "twice",
      encode = function(n) return tostring(2 * n) end,
      decode = function(s) return tonumber(s) / 2 end,
    } })
    q:push(21)
    assert.equal("42", q:peek()[1].bytes)
    assert.equal(21, q:take():item(1).payload)
  end)

  it("must encode to a string", function()
    local q = helper.store():queue("orders", { codec = {
      name = "broken", encode = function() return 5 end, decode = print,
    } })
    assert.error_matches(function() q:push(1) end, "codec 'broken' encoded")
  end)

  it("that raises or gives nothing makes dead letters too", function()
    local store = helper.store()
    local q = store:queue("orders", { codec = {
      name = "moody", encode = tostring,
      decode = function(s) if s == "1" then error("not today", 0) end end,
    } })
    q:push_many { 1, 2 }
    for _ in q:take { limit = 2 }:each() do error "decoded?" end
    store:close()
    local dead_letters = helper.open(store.path):dead "orders":list()
    assert.equal("codec 'moody': not today", dead_letters[1].error)
    assert.equal("codec 'moody' decoded to nothing", dead_letters[2].error)
  end)

  it("that cannot decode makes dead letters, bytes untouched", function()
    local store = helper.store()
    local q = store:queue "orders"
    helper.push_bytes(q, "\255")
    helper.push_bytes(q, "\24\100")
    local seen = {}
    local batch = q:take { limit = 2 }
    for payload in batch:each() do table.insert(seen, payload) end
    batch:done()
    batch:settle()
    assert.same({ 100 }, seen)
    local dead_letter = q.dead:oldest()
    assert.equal("undecodable", dead_letter.reason)
    assert.equal("\255", dead_letter.bytes)
    assert.is_nil(dead_letter.payload)
  end)
end)

describe("looking at a queue", function()
  local q
  before_each(function() q = queue() end)

  it("peeks in the order of taking, and changes nothing", function()
    q:push_many { "a", "b", "c" }
    q:push("first", { priority = 1, headers = { h = 1 } })
    local items = q:peek(3)
    assert.equal("first", items[1].payload)
    assert.same({ h = 1 }, items[1].headers)
    assert.equal("b", items[3].payload)
    assert.equal("ready", items[1].state)
    assert.equal(0, items[1].deliveries)
    assert.equal(4, q:length().ready)
  end)

  it("gets an item by id, whatever its state", function()
    q:push_many { "a", "b" }
    q:push("c", { delay = 5 })
    q:take()
    assert.equal("leased", q:get(1).state)
    assert.equal("ready", q:get(2).state)
    assert.equal("scheduled", q:get(3).state)
    assert.equal("c", q:get(3).payload)
    local item, _, code = q:get(4)
    assert.is_nil(item)
    assert.equal("NOT_FOUND", code)
  end)

  it("walks over every item once, by state", function()
    local list = {}
    for i = 1, 250 do list[i] = i end
    q:push_many(list)
    q:push(251, { delay = 5 })
    q:take { limit = 10 }
    local count = { ready = 0, leased = 0, scheduled = 0 }
    local seen = {}
    for item in q:each() do
      count[item.state] = count[item.state] + 1
      seen[item.payload] = true
    end
    assert.same({ ready = 240, leased = 10, scheduled = 1 }, count)
    assert.equal(251, #seen)
    local n = 0
    for item in q:each { state = "leased" } do
      assert.equal("leased", item.state)
      n = n + 1
    end
    assert.equal(10, n)
  end)

  it("counts by state", function()
    q:push_many { 1, 2, 3 }
    q:take()
    assert.same({ ready = 2, leased = 1, scheduled = 0, retrying = 0,
                  dead = 0, total = 3 },
                q:length())
    local stats = q:stats()
    assert.equal(3, stats.pushed)
    assert.equal(1, stats.delivered)
    assert.is_false(stats.paused)
    assert.near(q.store:now(), stats.oldest, 1)
  end)

  it("refuses bad arguments", function()
    for _, n in ipairs { 0, -1, 1.5, "x", huge } do
      assert.error_matches(function() q:peek(n) end, "bad argument #1")
      assert.error_matches(function() q:get(n) end, "bad argument #1")
      assert.error_matches(function() q:remove(n) end, "bad argument #1")
    end
    assert.error_matches(function() q:each { state = "gone" } end, "state")
  end)
end)

describe("caring for a queue", function()
  local q
  before_each(function() q = queue() end)

  it("removes an item, unless it is leased or gone", function()
    q:push_many { 1, 2 }
    q:take()
    assert.is_true(q:remove(2))
    assert.equal("BUSY", select(3, q:remove(1)))
    assert.equal("NOT_FOUND", select(3, q:remove(2)))
  end)

  it("purges what is not leased", function()
    q:push_many { 1, 2, 3 }
    q:take()
    assert.equal(2, q:purge())
    assert.equal(1, q:length().total)
  end)

  it("pauses and resumes", function()
    q:push(1)
    assert.is_true(q:pause())
    assert.equal(0, #q:take())
    assert.is_true(q:resume())
    assert.equal(1, #q:take())
  end)
end)

describe("queue:take", function()
  local q
  before_each(function() q = queue() end)

  refuses("queue:take", function(o) q:take(o) end, {
    limit = { 0, -1, 1.5, "x", huge },
    bytes = { 0, -1, "x" },
    timeout = { -1, nan, "1" },
    lease = { -1, nan, huge, "x" },
  })

  it("takes one item when not told", function()
    q:push_many { 1, 2 }
    assert.equal(1, #q:take())
  end)

  it("gives a lot of nothing when there is nothing", function()
    local batch = q:take { limit = 5 }
    assert.equal(0, #batch)
    for _ in batch:each() do error "an item?" end
    assert.is_true(batch:settle())
    assert.is_true(batch:close())
  end)

  it("waits for what is due", function()
    q:push("later", { delay = 100 })
    local before = q.store:now()
    assert.equal("later", q:take { timeout = 200 }:item(1).payload)
    assert.near(before + 100, q.store:now(), 1)
  end)

  it("waits no longer than told", function()
    q:push("later", { delay = 100 })
    local before = q.store:now()
    assert.equal(0, #q:take { timeout = 5 })
    assert.near(before + 5, q.store:now(), 0.1)
  end)

  it("bounds a batch by bytes, but gives one item", function()
    q:push_many { ("x"):rep(100), ("x"):rep(100), ("x"):rep(100) }
    assert.equal(2, #q:take { limit = 3, bytes = 250 })
    assert.equal(1, #q:take { limit = 3, bytes = 1 })
  end)
end)

describe("a batch", function()
  local q, batch
  before_each(function()
    q = queue()
    q:push_many { "a", "b", "c" }
    batch = q:take { limit = 3 }
  end)

  it("gives items with what is known about them", function()
    local item = batch:item(2)
    assert.equal(2, item.id)
    assert.equal("b", item.payload)
    assert.equal("orders", item.queue)
    assert.equal(0, item.attempts)
    assert.equal(1, item.deliveries)
    assert.equal(0, item.crashes)
    assert.equal(0, item.replays)
    assert.equal(0, item.priority)
    assert.near(q.store:now(), item.pushed_at, 1)
    assert.is_nil(item.expires_at)
    assert.is_nil(item.error)
    assert.is_nil(item.headers)
    assert.error_matches(function() return item.atempts end,
                         "no field 'atempts'; did you mean 'attempts'?",
                         1, true)
  end)

  it("has no other items than its own", function()
    for _, i in ipairs { 0, 4, -1 } do
      assert.error_matches(function() batch:item(i) end, "there is no item")
    end
  end)

  it("settles each item as it is marked", function()
    batch:item(1):done()
    batch:item(2):retry { delay = 5, error = "busy" }
    batch:item(3):dead { error = "bad", group = "data" }
    assert.is_true(batch:settle())
    assert.same({ ready = 0, leased = 0, scheduled = 0, retrying = 1,
                  dead = 1, total = 1 },
                q:length())
    assert.equal("busy", q:get(2).error)
    assert.equal("data", q.dead:oldest().group)
  end)

  it("walks over what is not settled yet", function()
    batch:item(2):done()
    batch:settle()
    local seen = {}
    for payload, item in batch:each() do
      table.insert(seen, payload .. item.id)
    end
    assert.same({ "a1", "c3" }, seen)
  end)

  it("goes by the last word", function()
    batch:item(1):dead()
    batch:item(1):done()
    batch:settle()
    assert.equal(0, q:length().dead)
    assert.error_matches(function() batch:item(1):done() end, "settled")
  end)

  it("goes by the last word of the batch, too", function()
    batch:item(2):release()
    batch:done()
    batch:item(1):release()
    batch:settle()
    assert.same({ "ready" }, { q:get(1).state })
    assert.equal(1, q:length().total)
  end)

  it("snoozes, drops and releases", function()
    batch:release()
    batch:item(1):snooze(5)
    batch:item(2):drop { error = "junk" }
    batch:settle()
    assert.equal("scheduled", q:get(1).state)
    assert.is_nil(q:get(2))
    assert.equal("ready", q:get(3).state)
    assert.equal(0, q:get(1).attempts)
    assert.equal(0, q:length().dead)
  end)

  it("refuses outcomes that are none", function()
    local item = batch:item(1)
    assert.error_matches(function() item:retry { delay = -1 } end, "'delay'")
    assert.error_matches(function() item:retry { later = 1 } end, "'later'")
    assert.error_matches(function() item:dead { group = 5 } end, "'group'")
    assert.error_matches(function() item:snooze() end, "bad argument #1")
    assert.error_matches(function() batch:snooze(nan) end, "bad argument #1")
    assert.error_matches(function() batch:settle { tkae = 1 } end, "'tkae'")
    assert.error_matches(function() batch:settle { take = { timeout = 1 } } end,
                         "unknown option 'timeout'")
    assert.error_matches(function() batch:extend "x" end, "bad argument #1")
  end)

  it("hands over: outcome, follow-ups and the next batch at once", function()
    local next_queue = q.store:queue "mails"
    q:push "d"
    batch:done()
    local ok, more = batch:settle {
      push = { { queue = next_queue, payload = { to = "a" }, priority = 3 } },
      take = { limit = 10 },
    }
    assert.is_true(ok)
    assert.equal("d", more:item(1).payload)
    local mail = next_queue:peek()[1]
    assert.same({ to = "a" }, mail.payload)
    assert.equal(3, mail.priority)
  end)

  it("pushes with an item only when that is done", function()
    local follow = q.store:queue "mails"
    for i = 1, 3 do batch:item(i):push(follow, "mail " .. i) end
    batch:release()
    batch:item(1):done()
    batch:item(2):retry()
    batch:settle()
    assert.equal(1, follow:length().total)
    assert.equal("mail 1", follow:peek()[1].payload)
    assert.error_matches(function() batch:item(2):push("mails", 1) end,
                         "bad argument #1 to 'push' %(a queue expected")
  end)

  it("changes nothing once its lease is lost", function()
    q.store:advance(31)
    local again = q:take { limit = 3 }
    batch:done()
    local ok, message, code = batch:settle()
    assert.is_nil(ok)
    assert.is_string(message)
    assert.equal("LEASE_LOST", code)
    assert.equal(3, batch.lost)
    assert.is_true(#again > 0)
    assert.equal(3, q:length().total)
  end)

  it("keeps its lease when extended", function()
    q.store:advance(20)
    assert.is_true(batch:extend(60))
    q.store:advance(50)
    assert.equal(0, #q:take())
    batch:done()
    assert.is_true(batch:settle())
  end)

  it("keeps its lease by itself", function()
    assert.is_true(batch:keep())
    q.store:advance(600)
    assert.equal(0, #q:take())
    batch:done()
    assert.is_true(batch:settle())
  end)

  it("settles what is marked and releases the rest when closed", function()
    batch:item(1):done()
    assert.is_true(batch:close())
    assert.is_true(batch:close())
    assert.equal(2, q:length().ready)
    assert.error_matches(function() batch:done() end, "closed batch")
  end)

  it("tells what it is", function()
    assert.equal("respool batch of 3 from orders", tostring(batch))
    assert.equal("respool item 1 of orders", tostring(batch:item(1)))
    batch:close()
    assert.equal("respool batch (closed)", tostring(batch))
  end)
end)

if rawget(_G, "jit") then
  local ffi = require "ffi"
  ffi.cdef "int fork(void); int waitpid(int, int *, int); void _exit(int);"

  -- What `body` returns in a child process, as words.
  local function in_child(body)
    local path = helper.dir() .. "/said"
    local pid = ffi.C.fork()
    if pid == 0 then
      local ok, said = pcall(body)
      helper.write(path, tostring(ok and said))
      ffi.C._exit(0)
    end
    ffi.C.waitpid(pid, nil, 0)
    return helper.read(path)
  end

  describe("after a fork, in the child", function()
    local q, batch
    before_each(function()
      q = queue()
      q:push_many { 1, 2 }
      batch = q:take()
    end)

    it("every call says FORKED", function()
      local function code(f, ...) return select(3, f(...)) end
      assert.equal("FORKED FORKED FORKED FORKED FORKED", in_child(function()
        return table.concat({
          code(q.push, q, 1), code(q.take, q), code(q.work, q, print),
          code(batch.settle, batch), code(q.dead.count, q.dead),
        }, " ")
      end))
    end)

    it("closing frees memory and nothing else", function()
      assert.equal("FORKED", in_child(function()
        local _, _, code = q.store:close()
        q, batch = nil, nil
        collectgarbage()
        return code
      end))
      batch:done()
      assert.is_true(batch:settle())
      assert.equal(1, q:length().total)
    end)
  end)
end

if _VERSION >= "Lua 5.4" then
  local scoped = assert(load [[
    local open, body = ...
    local thing <close> = open()
    return body(thing)
  ]])

  describe("leaving a scope", function()
    it("closes a store", function()
      local kept
      scoped(helper.store, function(store) kept = store end)
      assert.matches("closed", tostring(kept))
    end)

    it("closes a batch: settles what is marked, releases the rest", function()
      local q = queue()
      q:push_many { 1, 2 }
      scoped(function() return q:take { limit = 2 } end,
             function(batch) batch:item(2):done() end)
      assert.equal(1, q:length().ready)
    end)

    it("raises when a batch could not be settled", function()
      local q = queue()
      q:push(1)
      assert.error_matches(function()
        scoped(function() return q:take() end, function(batch)
          q.store:advance(31)
          q:take()
          batch:done()
        end)
      end, "lease")
    end)
  end)
end
