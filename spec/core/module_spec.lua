-- SPDX-License-Identifier: MIT

local helper = require "spec.helper"
local respool = require "respool"

local huge, nan = math.huge, 0 / 0
local memory = ":memory:"

local refuses = helper.refuses(it)

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
    max_lease = { -1, nan, "1x", 0, 1e-9 },
    max_attempts = { 0, -1, 1.5, nan, "5" },
    max_crashes = { 0, 2.5, "3" },
    retry = { "fast", {}, 5, { name = "list", list = { 1, nil, 3 } } },
    on_exhausted = { "gone", {}, { cooldown = -1 },
                     { cooldown = 1, dead = true }, 1 },
    ttl = { -1, nan, "d1" },
    on_expire = { "keep", true, {} },
    ordered = { 1, "yes" },
    max_items = { -1, 0.5, "10" },
    max_queue_bytes = { 0, -1, "batches" },
    overflow = { "drop", 1, true },
    keep_done = { -1, "1 day", {}, { days = 1 }, { seconds = -1 },
                  { seconds = 1, days = 1 }, true, "86400" },
    keep_dead = { -1, nan, "1 d", {}, { items = 0 }, { items = 1.5 },
                  { bytes = -1 }, { days = 1 }, "86400" },
    dead_letter = { "", ("x"):rep(256), 5 },
    decide = { "dead", {} },
    validate = { "string", true },
    codec = { "json", {}, { name = "x" }, 5,
              { name = "x\0", encode = print, decode = print } },
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
      rate = false, breaker = false,
      partitions = {
        concurrency = 0, batch = 0, ordered = false, rate = false,
        breaker = false,
      },
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
    assert.is_false(config.dead_letter)
    assert.equal("exponential", config.retry.name)
    assert.equal("full", config.retry.jitter)
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
