-- SPDX-License-Identifier: MIT
--
-- Hooks (I7, I8): they are told, and cannot harm the work.

local helper = require "spec.helper"
local respool = require "respool"

local empty = { stop_when_empty = true }

local errors, said

-- A store that remembers what on_error and log were told.
local function open(options)
  errors, said = {}, {}
  local all = {
    clock = "manual",
    on_error = function(err) table.insert(errors, err) end,
    log = function(level, message, fields)
      table.insert(said, { level = level, message = message, fields = fields })
    end,
  }
  for name, value in pairs(options or {}) do all[name] = value end
  return assert(helper.open(helper.location(), all))
end

-- What the log was told under this message.
local function logged(message)
  local list = {}
  for _, entry in ipairs(said) do
    if entry.message == message then list[#list + 1] = entry end
  end
  return list
end

describe("on_handler_error", function()
  it("sees every error of a handler, with its item", function()
    local store, seen = open(), {}
    local q = store:queue("orders", {
      max_attempts = 2,
      on_handler_error = function(err, item)
        table.insert(seen, { err.message, item.id, item.attempts })
      end,
    })
    q:push "a"
    q:work(function() error { message = "no" } end, empty)
    assert.same({ { "no", 1, 0 }, { "no", 1, 1 } }, seen)
    local entries = logged "a handler failed"
    assert.equal(2, #entries)
    assert.equal("warn", entries[1].level)
    local fields = entries[1].fields
    assert.matches("^stack traceback:", fields.trace)
    fields.trace = nil
    assert.same({ queue = "orders", id = 1, attempt = 1, error = "no" }, fields)
  end)

  it("does not see an outcome that the handler chose", function()
    local store, calls = open(), 0
    local q = store:queue("orders", {
      on_handler_error = function() calls = calls + 1 end,
    })
    q:push "a"
    q:work(function() return respool.dead { error = "no" } end, empty)
    assert.equal(0, calls)
  end)

  it("spoils nothing when it raises, and on_error is told once", function()
    local store = open()
    local q = store:queue("orders", {
      max_attempts = 1,
      on_handler_error = function() error("oh", 0) end,
    })
    q:push "a"
    local counts = q:work(function() error "no" end, empty)
    assert.equal(1, counts.failed)
    assert.same({ { message = "oh", where = "on_handler_error" } }, errors)
  end)
end)

describe("on_dead", function()
  local deaths

  local function queue(store, options)
    deaths = {}
    local all = { max_attempts = 1, on_dead = function(death)
      table.insert(deaths, {
        death.item.payload, death.reason, death.group, death.error,
      })
    end }
    for name, value in pairs(options or {}) do all[name] = value end
    return assert(store:queue("orders", all))
  end

  it("is told of an item that has used up its attempts", function()
    local q = queue(open(), { max_attempts = 2 })
    q:push "a"
    local failures = 0
    q:work(function()
      failures = failures + 1
      assert.same({}, deaths)
      error({ message = "no", group = "g" }, 0)
    end, empty)
    assert.equal(2, failures)
    assert.same({ { "a", "exhausted", "g", "no" } }, deaths)
    assert.equal(1, #logged "an item died")
    assert.equal("warn", logged("an item died")[1].level)
  end)

  it("is told when the dead letter is there", function()
    local store, count = open(), nil
    local q
    q = queue(store, { on_dead = function() count = q.dead:count() end })
    q:push "a"
    q:work(function() error "no" end, empty)
    assert.equal(1, count)
  end)

  it("is told of what was rejected, one by one or as a batch", function()
    local q = queue(open())
    q:push_many { "a", "b", "c" }
    local batch = q:take { limit = 3 }
    batch:dead { error = "y", group = "g" }
    batch:item(1):dead { error = "x" }
    assert.same({}, deaths)
    batch:settle()
    assert.same({ { "a", "rejected", nil, "x" }, { "b", "rejected", "g", "y" },
                  { "c", "rejected", "g", "y" } }, deaths)
    batch:close()
    assert.equal(3, #deaths)
  end)

  it("is told of what cannot be decoded", function()
    local store = open()
    helper.push_bytes(store:queue "orders", "\255")
    queue(store):work(function() end, empty)
    assert.equal("undecodable", deaths[1][2])
  end)

  it("is not told of what goes on, is done after all, or is dropped",
     function()
    local q = queue(open(), { max_attempts = 2 })
    q:push_many { "retried", "done", "dropped" }
    local batch = q:take { limit = 3 }
    batch:item(1):dead()
    batch:item(1):retry()
    batch:item(2):dead()
    batch:item(2):done()
    batch:item(3):drop()
    batch:settle()
    assert.same({}, deaths)
  end)

  it("is not told of an item whose lease was lost", function()
    local store = open()
    local q = queue(store, { lease = 10 })
    q:push "a"
    local batch = q:take()
    batch:item(1):dead()
    store:advance(11)
    assert(q:take())
    assert.is_nil(batch:settle())
    assert.same({}, deaths)
  end)

  it("is told of what has expired when a take comes to it", function()
    local store = open()
    local q = queue(store, { ttl = 5, dead_letter = "late" })
    q:push("a", { headers = { n = 1 } })
    store:advance(6)
    local batch = q:take()
    assert.equal(0, #batch)
    assert.same({ { "a", "expired" } }, deaths)
    assert.equal(1, store:dead("late"):count())
  end)

  it("is told of what is not delivered in the commit of a settle",
     function()
    local store = open()
    local q = queue(store)
    q:push "a"
    q:push("b", { ttl = 5 })
    local batch = q:take()
    store:advance(6)
    batch:done()
    local ok, more = batch:settle { take = {} }
    assert.is_true(ok)
    assert.equal(0, #more)
    assert.same({ { "b", "expired" } }, deaths)
  end)

  it("is told of an item that crashed too often", function()
    local store = open()
    local q = queue(store, { lease = 10, max_crashes = 1 })
    q:push "a"
    q:take()
    store:advance(11)
    q:work(function() error "not again" end, empty)
    assert.same({ { "a", "crashed", nil, "the lease ran out" } }, deaths)
  end)

  -- Dead letters of pushes that had no room were told to nobody.
  it("is told of what a full queue buries, however it was pushed", function()
    local store = open()
    local q = queue(store, { max_items = 1, overflow = "dead" })
    local jobs = assert(store:queue "jobs")
    q:push "fits"
    q:push "a"
    q:push_many { "b", "c" }
    store:transaction(function(tx) tx:push(q, "d") end)
    jobs:push_many { 1, 2 }
    local batch = jobs:take()
    batch:done()
    assert(batch:settle { push = { { queue = q, payload = "e" } } })
    jobs:work(function(_, item) item:push(q, "f") end, empty)
    local told = {}
    for i, death in ipairs(deaths) do
      told[i] = death[1]
      assert.same({ "overflow", "the queue was full" },
                  { death[2], death[4] })
    end
    assert.same({ "a", "b", "c", "d", "e", "f" }, told)
  end)

  it("is told of what its buffer's flush buries, once flush is back",
     function()
    local q = queue(open(), { max_items = 1, overflow = "dead", buffer = {
      items = 2, interval = 60 } })
    for i = 1, 7 do q:push(i) end
    assert(q:flush())
    assert.equal(q.dead:count(), #deaths)
    assert.equal("overflow", deaths[1][2])
  end)

  it("is told of what a push has found expired", function()
    local store = open()
    local q = queue(store, { max_items = 1 })
    q:push("a", { ttl = 5, key = "k" })
    store:advance(5)
    assert(q:push("b", { ttl = 5 }))
    store:advance(5)
    assert(q:push("c", { key = "k", ttl = 5 }))
    store:advance(5)
    assert(q:push("d", { key = "k" }))
    assert.same({ { "a", "expired" }, { "b", "expired" },
                  { "c", "expired" } }, deaths)
  end)

  it("is not told of what another handle pushes, nor of what did not happen",
     function()
    local store = open()
    local q = queue(store, { max_items = 1, overflow = "dead" })
    local other = assert(store:queue "orders")
    q:push "fits"
    other:push "a"
    pcall(store.transaction, store, function(tx)
      tx:push(q, "b")
      error "no"
    end)
    local jobs = assert(store:queue("jobs", { max_items = 0 }))
    assert.equal("FULL", helper.code(store:transaction(function(tx)
      tx:push(q, "c")
      tx:push(jobs, "no room")
    end)))
    q:take()
    assert.same({}, deaths)
    assert.equal(1, q.dead:count())
  end)

  it("may close the store when it is told within a push", function()
    local store = open()
    local q = queue(store, { max_items = 0, overflow = "dead",
                             on_dead = function() store:close() end })
    assert.equal(1, q:push_many { "a", "b" })
    assert.has_error(function() q:push "c" end)
  end)

  it("is not told of what was expired to be dropped", function()
    local store = open()
    local q = queue(store, { ttl = 5, on_expire = "drop" })
    q:push "a"
    store:advance(6)
    assert.equal(0, #q:take())
    assert.same({}, deaths)
  end)

  it("may close the store when it is told within a take", function()
    for _, how in ipairs { "take", "work" } do
      local store = open()
      local q = queue(store, { ttl = 5, on_dead = function()
        store:close()
      end })
      q:push "a"
      store:advance(6)
      if how == "take" then
        assert(q:take { timeout = 5 })
      else
        assert.equal(0, q:work(function() end).items)
      end
    end
  end)

  it("spoils nothing when it raises, and on_error is told once", function()
    local q = queue(open(), { on_dead = function() error("oh", 0) end })
    q:push_many { "a", "b" }
    local counts = q:work(function(p) if p == "a" then error "no" end end,
                          empty)
    assert.equal(1, counts.failed)
    assert.equal(1, counts.done)
    assert.same({ { message = "oh", where = "on_dead" } }, errors)
    assert.equal(1, q.dead:count())
  end)

  it("may close the store", function()
    local store = open()
    local q
    q = queue(store, { on_dead = function() store:close() end })
    q:push_many { "a", "b" }
    local counts = q:work(function() error "no" end, { batch = 1 })
    assert.is_table(counts)
    local again = assert(helper.open(store.path, { clock = "manual" }))
    assert.equal(1, again:queue("orders"):length().ready)
    assert.equal(1, again:dead("orders"):count())
  end)
end)

describe("on_error", function()
  it("is told what decide and dead_letter raise", function()
    local q = open():queue("orders", {
      max_attempts = 1,
      decide = function() error("undecided", 0) end,
      dead_letter = function() error("no DLQ", 0) end,
    })
    q:push "a"
    q:work(function() error "no" end, empty)
    assert.same({ { message = "undecided", where = "decide" },
                  { message = "no DLQ", where = "dead_letter" } }, errors)
  end)

  it("is told of a flush that failed, with its code", function()
    local store = open()
    local q = store:queue("orders",
      { max_items = 1, buffer = { items = 100, interval = 1 } })
    q:push(1)
    q:push(2)
    assert.is_nil(q:flush())
    assert.equal("FULL", errors[1].code)
    assert.equal("buffer", errors[1].where)
    assert.matches("full", errors[1].message)
  end)

  it("may raise itself, and so may log", function()
    local store = open {
      on_error = function() error "again" end,
      log = function() error "and again" end,
    }
    local q = store:queue("orders", {
      max_attempts = 1, decide = function() error "undecided" end,
    })
    q:push "a"
    assert.equal(1, q:work(function() error "no" end, empty).failed)
    assert.equal(1, q.dead:count())
    assert.is_true(store:close())
  end)

  it("may be missing", function()
    local q = helper.store():queue("orders", {
      max_attempts = 1, on_dead = function() error "oh" end,
    })
    q:push "a"
    assert.equal(1, q:work(function() error "no" end, empty).failed)
  end)
end)

describe("log", function()
  it("is told of leases that were lost in work", function()
    local store = open()
    local q = store:queue("orders", { lease = 10, max_lease = 20 })
    q:push "a"
    local calls = 0
    q:work(function()
      calls = calls + 1
      if calls > 1 then return end
      store:advance(100)
      q:take():close()
    end, empty)
    assert.same({ queue = "orders", items = 1 },
                logged("leases were lost")[1].fields)
  end)

  it("is told of internal errors too, and of the end", function()
    local store = open()
    local q = store:queue("orders", {
      max_attempts = 1, on_dead = function() error("oh", 0) end,
    })
    q:push "a"
    q:work(function() error "no" end, empty)
    assert.same({ where = "on_dead" }, logged("oh")[1].fields)
    assert.equal("error", logged("oh")[1].level)
    store:close()
    assert.equal(1, #logged "store closed")
  end)
end)

-- Whoever came after the store was closed met a closed batch, and work raised
-- what is a misuse.
describe("a function that closes the store", function()
  local store, q, calls

  local function close()
    calls = calls + 1
    store:close()
  end

  local function queue(options)
    store, calls = open(options and options.store), 0
    local all = {}
    for key, value in pairs(options or {}) do
      if key ~= "store" then all[key] = value end
    end
    q = assert(store:queue("orders", all))
    q:push_many { "a", "b", "c" }
  end

  local function fail()
    error("no", 0)
  end

  -- Work ends as if stopped, having called it once; what is ready then.
  local function ready_after(handler, options)
    local counts = q:work(handler or fail, options)
    assert.is_table(counts)
    assert.equal(1, calls)
    assert.matches("closed", tostring(store))
    local new = assert(helper.open(store.path, { clock = "manual" }))
    assert.same({}, new:check())
    return table.concat(helper.payloads(new:queue "orders"), " "), counts, new
  end

  it("ends work, the item in hand released", function()
    local function settles_first(options)
      queue(options)
      local ready, counts = ready_after(function(payload)
        if payload == "b" then fail() end
      end, { batch = 3 })
      assert.equal("b c", ready)
      assert.equal(0, counts.failed)
    end
    settles_first { on_handler_error = close }
    settles_first { decide = close, on_handler_error = function() end }
    settles_first { max_attempts = 1, dead_letter = close }
    settles_first { max_attempts = 1, on_dead = function() end,
                    dead_letter = close }
    settles_first { decide = function() close() error "no" end }
    settles_first { decide = function() close() return "dead" end }
    settles_first { max_attempts = 1, dead_letter = function()
      close()
      return "dlq"
    end }
  end)

  it("may be the on_error of work, or what says an error", function()
    queue()
    assert.equal("a b c", (ready_after(fail, { on_error = close })))
    queue()
    assert.equal("a b c", (ready_after(function()
      error(setmetatable({}, { __tostring = function()
        if calls == 0 then close() end
        return "no"
      end }))
    end)))
  end)

  it("may be on_dead, of the first of several dead letters", function()
    queue { max_attempts = 1, on_dead = close }
    local ready, _, new = ready_after(fail, { batch = 2 })
    assert.equal("c", ready)
    assert.equal(2, new:dead("orders"):count())
  end)

  it("may be on_dead, of an item that has expired", function()
    queue { on_dead = close }
    q:purge()
    q:push("late", { ttl = 1 })
    q:push "in time"
    store:advance(2)
    assert.equal("in time", (ready_after()))
  end)

  it("may be the store's on_error or log", function()
    for _, hook in ipairs { "on_error", "log" } do
      queue { store = { [hook] = function()
        if calls == 0 then close() end
      end }, max_attempts = 1, decide = fail }
      assert.equal("a b c", (ready_after(fail)))
    end
  end)

  it("may be the log that hears of lost leases", function()
    queue { store = { log = function(_, message)
      if message == "leases were lost" then close() end
    end }, lease = 10, max_lease = 20 }
    local ready = ready_after(function()
      store:advance(100)
      assert.equal(1, #q:take { lease = 1000 })
    end, { batch = 1 })
    assert.is_true(ready == "a b c" or ready == "b a c", ready) -- a tie
  end)

  it("may be an upgrade, whose item no handler sees", function()
    for _, last in ipairs { function() return "new" end, fail,
                            function() end } do
      queue()
      q = store:queue("orders", { version = 1, upgrade = function()
        close()
        return last()
      end })
      local seen = 0
      assert.equal("a b c", (ready_after(function() seen = seen + 1 end)))
      assert.equal(0, seen)
      queue()
      q = store:queue("orders", { version = 1, upgrade = function()
        close()
        return last()
      end })
      local merge = { key = function(p) return p end, with = error }
      assert.equal("a b c", (ready_after(fail, { merge = merge })))
    end
  end)

  it("may be a codec", function()
    queue { codec = { name = "own", encode = tostring, decode = function(s)
      close()
      return s
    end } }
    local counts = q:work(fail)
    assert.equal(0, counts.items)
    assert.equal(1, calls)
  end)

  it("may be key or with of a merge", function()
    local function key() return "k" end
    for _, merge in ipairs {
      { key = function() close() return "k" end, with = error },
      { key = function() close() error "no" end, with = error },
      { key = key, with = function(a) close() return a end },
      { key = key, with = function() close() error "no" end },
    } do
      queue()
      assert.equal("a b c", (ready_after(fail, { merge = merge })))
    end
  end)

  it("may be called for batches", function()
    for _, options in ipairs {
      { on_handler_error = close }, { max_attempts = 1, dead_letter = close },
    } do
      queue(options)
      assert.is_table(q:work_batches(fail, { batch = 3 }))
      assert.equal(1, calls)
    end
    queue { dead_letter = close }
    assert.is_table(q:work_batches(function() return respool.dead() end))
    assert.equal(1, calls)
  end)

  it("may be called for a push that is refused", function()
    queue { on_handler_error = close }
    local full = store:queue("full", { max_items = 1 })
    local ready, counts, new = ready_after(function(payload, item)
      item:push(full, payload)
    end, { batch = 3 })
    assert.equal("b c", ready)
    assert.equal(0, counts.failed)
    assert.same({ "a" }, helper.payloads(new:queue "full"))
  end)

  it("may give work time: the item in hand is settled", function()
    queue { on_handler_error = function()
      calls = calls + 1
      store:close(10)
    end, max_attempts = 1 }
    local ready, counts, new = ready_after(fail, { batch = 2 })
    assert.equal("b c", ready)
    assert.equal(1, counts.failed)
    assert.equal(1, new:dead("orders"):count())
  end)
end)

describe("hooks as options", function()
  it("must be functions", function()
    for _, name in ipairs { "on_error", "log" } do
      assert.error_matches(function()
        respool.open(helper.location(), { [name] = 5 })
      end, "respool.open: option '" .. name .. "' must be a function")
    end
    for _, name in ipairs { "on_handler_error", "on_dead" } do
      assert.error_matches(function()
        open():queue("orders", { [name] = true })
      end, "store:queue: option '" .. name .. "' must be a function")
    end
  end)
end)
