-- SPDX-License-Identifier: MIT
--
-- Small pushes, takes and dones through the journal: what LMDB gets of them,
-- and that nobody notices where an item is.

local helper = require "spec.helper"
local respool = require "respool"
local stored = require "spec.helper.stored"

local it = helper.checked(it) -- luacheck: ignore
local payloads = helper.payloads
local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue("orders", { lease = 30 }))
end)

-- How many records a database of the store has.
local function entries(database)
  return #stored.read(store.path)[database]
end

local function reopen(options)
  local path = store.path
  assert(store:close())
  local all = { clock = "manual" }
  for name, value in pairs(options or {}) do all[name] = value end
  store = assert(helper.open(path, all))
  q = assert(store:queue "orders")
end

-- Makes LMDB take over what the journal holds: a push with a key does.
local function apply()
  local other = assert(q:push("applied", { key = "apply", delay = 1000 }))
  assert(q:remove(other))
end

local function take(n)
  return assert(q:take { limit = n or 1 })
end

describe("the journal", function()
  it("holds small pushes, of which LMDB has nothing", function()
    for n = 1, 3 do assert.equal(n, q:push(n)) end
    assert.equal(0, entries "segments")
    assert.same({ 1, 2, 3 }, payloads(q))
    assert.equal(3, q:length().ready)
    local batch = take(3)
    batch:done()
    assert(batch:settle())
    assert.equal(0, entries "segments")
    local stats = q:stats()
    assert.same({ 3, 3, 3, 0 }, { stats.pushed, stats.done, stats.delivered,
                                  stats.ready + stats.leased })
  end)

  it("is not for what has a delay or needs much room", function()
    q:push("a", { delay = 5 })
    q:push(("x"):rep(100000))
    assert.equal(2, entries "segments")
  end)

  it("keeps its items when all processes are gone", function()
    q:push_many { "a", "b", "c" }
    local batch = take()
    batch:done()
    assert(batch:settle())
    reopen()
    assert.same({ "b", "c" }, payloads(take(9)))
  end)

  it("gives ids on, whoever pushes", function()
    assert.equal(1, q:push "a")
    assert.equal(2, q:push("b", { key = "k" }))
    assert.equal(3, q:push "c")
    reopen { journal = false }
    assert.equal(4, q:push "d")
    assert.same({ "a", "b", "c", "d" }, payloads(take(9)))
  end)

  -- Their ids were given again, as LMDB had never heard of them.
  it("remembers the ids of items that are done, also when all processes are " ..
     "gone", function()
    q:push_many { "a", "b" }
    local batch = take(2)
    batch:done()
    assert(batch:settle())
    reopen { journal = false }
    assert.equal(3, q:push "c")
  end)

  it("is taken from by priority, then age, beside LMDB", function()
    q:push("old", { priority = 1, key = "k" })
    q:push("low", { priority = 1 })
    q:push("high", { priority = 2 })
    assert.same({ "high", "old", "low" }, payloads(q:peek(9)))
    assert.same({ "high", "old", "low" }, payloads(take(9)))
  end)

  it("knows nothing of what becomes of an item but done", function()
    for _ = 1, 4 do q:push "x" end
    local batch = take(4)
    batch:item(1):retry { delay = 5, error = "busy" }
    batch:item(2):done()
    batch:item(3):dead { error = "bad" }
    batch:item(4):release()
    assert(batch:settle())
    local stats = q:stats()
    assert.same({ 1, 1, 1, 1 },
                { stats.retrying, stats.done, stats.died, stats.ready })
    assert.equal(1, take():item(1).deliveries - 1)
    store:advance(5)
    assert.equal("busy", take():item(1).error)
  end)

  it("lets a batch be settled bit by bit, applied in between", function()
    for n = 1, 5 do q:push(n) end
    local batch = take(5)
    for _, n in ipairs { 3, 1 } do
      batch:item(n):done()
      assert(batch:settle())
    end
    apply()
    assert.equal(3, q:stats().leased)
    assert(batch:extend(60))
    batch:item(4):done()
    assert(batch:settle())
    batch:done()
    assert(batch:settle())
    assert.equal(5, q:stats().done)
  end)

  it("blames an item whose worker is gone, once its lease is over", function()
    q:push "poison"
    local path = store.path
    assert(store:close())
    local worker = helper.spawn([[
      local respool = require "respool"
      store = assert(respool.open(arg[1]))
      batch = assert(store:queue "orders":take())
      print "taken"
      io.stdout:flush()
      store.handle:sleep(60)]], path)
    worker:expect "taken"
    worker:kill()
    store = assert(helper.open(path, { clock = "manual" }))
    q = assert(store:queue "orders")
    assert.equal(0, #take())
    store:advance(31)
    assert.equal(1, take():item(1).crashes)
  end)

  it("fences a lease that ran out", function()
    q:push "a"
    local late = take()
    store:advance(31)
    local now = take()
    late:done()
    assert.equal("LEASE_LOST", select(3, late:settle()))
    now:done()
    assert(now:settle())
    assert.equal(1, q:stats().lease_lost)
  end)

  -- A settle took the second claim of a batch for the first, which another had
  -- done meanwhile, and did it again.
  it("tells the claims of a batch apart when one is lost", function()
    q:push_many { 1, 2 }
    for _, batch in ipairs { take(), take() } do
      batch:release()
      assert(batch:settle())
    end
    local late = take(9)
    assert.equal(2, #late)
    store:advance(31)
    local now = take()
    now:done()
    assert(now:settle())
    late:done()
    assert.equal("LEASE_LOST", select(3, late:settle()))
    local stats = q:stats()
    assert.same({ 2, 0 }, { stats.done, stats.ready + stats.leased })
  end)

  -- Extensions change no queue's record, so the journal was not told.
  it("does not go before leases that an extension made shorter", function()
    q:push("a", { priority = 1, delay = 1 })
    store:advance(1)
    local batch = take()
    q:push "b"
    assert(batch:extend(5))
    store:advance(5)
    assert.same({ "a" }, payloads(take(1)))
  end)

  it("lets its items be changed one by one, and moved before others", function()
    q:push_many { "a", "b", "c", "d" }
    local batch = take()
    local other = assert(store:queue "other")
    assert.equal(1, other:push "x")
    assert.equal("BUSY", helper.code(q:kill(1)))
    assert.equal(2, assert(q:move(4, other)))
    q:push "e"
    assert(q:edit(5, "E"))
    q:push "f"
    assert(q:kill(6))
    assert(q:run_now(2))
    batch:done()
    assert(batch:settle())
    assert.same({ "b", "c", "E" }, payloads(take(9)))
    assert.same({ "x", "d" }, payloads(assert(other:take { limit = 9 })))
    assert.equal("killed", q.dead:get(1).reason)
  end)

  it("tells whose its leases are, which end with the worker", function()
    q:push_many { "a", "b", "c" }
    local number, seen
    local thread = coroutine.create(function()
      q:work(function() coroutine.yield(q:get(1).worker.number) end,
             { batch = 2 })
    end)
    number = select(2, assert(coroutine.resume(thread)))
    seen = assert(store:workers())[1]
    assert.same({ number, 2 }, { seen.number, seen.leased })
    assert.equal(0, entries "claims")
    assert.equal(2, assert(store.handle:worker_end(number, true)))
    assert.equal(3, q:length().ready)
    assert.same({ "a" }, payloads(take(9))) -- halves of the batch
  end)

  it("ends items that outlive their time", function()
    q:push("short", { ttl = 5 })
    q:push "long"
    store:advance(6)
    assert.same({ "long" }, payloads(take(9)))
    assert.equal("expired", q.dead:oldest().reason)
  end)

  it("follows the queue's policy from when it is changed", function()
    q:push_many { "a", "b" }
    store:queue("orders", { max_items = 2 })
    assert.equal("FULL", select(3, q:push "c"))
    store:queue("orders", { keep_done = 60 })
    local batch = take()
    batch:done()
    assert(batch:settle())
    assert.equal(1, q:stats().kept)
  end)

  it("gives nothing out of a paused queue", function()
    q:push "a"
    q:pause()
    assert.equal(0, #take())
    q:push "b"
    q:resume()
    assert.same({ "a", "b" }, payloads(take(9)))
  end)

  it("goes with its queue", function()
    q:push_many { "a", "b" }
    assert(store:drop_queue "orders")
    q = assert(store:queue "orders")
    assert.equal(0, q:length().total)
    assert.equal(1, q:push "c")
    assert.same({ "c" }, payloads(take(9)))
  end)

  -- The file as it was before the item was done stands for a power cut before
  -- that was flushed, which another process may do late.
  it("has no item of a queue that was dropped, after a power cut", function()
    assert(q:push "x")
    local batch = take()
    local path = store.path
    local before = helper.read(path .. "/journal")
    batch:done()
    assert(batch:settle())
    assert.is_true(store:drop_queue "orders")
    assert(store:close())
    helper.write(path .. "/journal", before)
    assert(os.remove(path .. "/control"))
    store = assert(helper.open(path, { clock = "manual" }))
    q = assert(store:queue "others")
    assert.equal(1, q:push("y", { delay = 5 }))
    assert.equal(1, q:length().total)
  end)

  -- Removing an item makes LMDB take over all others.
  it("is walked to its end, also when LMDB takes it over meanwhile", function()
    for n = 1, 250 do q:push(n) end
    local batch = take(2)
    local seen = {}
    for item in q:each() do
      seen[#seen + 1] = item.id
      if #seen > 2 then assert(q:remove(item.id)) end
    end
    assert.equal(250, #seen)
    for n, id in ipairs(seen) do assert.equal(n, id) end
    assert.same({ 0, 2 }, { q:length().ready, q:length().leased })
    batch:close()
  end)

  it("is walked no further than it was when its walk came to it", function()
    q:push "first"
    local seen = 0
    for _ in q:each() do
      seen = seen + 1
      q:push "more"
    end
    assert.equal(1, seen)
  end)

  -- The claims of such items lie in a line of their own.
  it("is walked by the text of a cursor, too", function()
    local core = require "respool.core"
    q:push_many { "a", "b", "c" }
    local batch = take(3)
    apply()
    local cursor, seen = core.cursor(), {}
    for n = 1, 3 do
      local page = assert(q.handle:browse(cursor, nil, 1))
      seen[n] = page[1].id
      cursor = assert(core.cursor(tostring(cursor)))
    end
    assert.same({ 1, 2, 3 }, seen)
    batch:close()
  end)

  it("is shown to who only looks", function()
    q:push_many { "a", "b" }
    local looks = helper.spawn([[
      local respool = require "respool"
      local store = assert(respool.open(arg[1], { read_only = true }))
      local q = assert(store:queue "orders")
      print(q:length().ready, q:peek(9)[2].payload,
            q:get(1).payload)]], store.path)
    looks:expect "2\tb\ta"
    looks:wait()
  end)

  it("goes along with a copy, and is brought back by a repair", function()
    q:push_many { "a", "b", "c" }
    local batch = take()
    batch:done()
    assert(batch:settle())
    local copy, mended = helper.location(), helper.location()
    assert(respool.compact(store.path, { to = copy }))
    local path = store.path
    assert(store:close())
    assert(respool.repair(path, mended))
    for _, at in ipairs { copy, mended } do
      local other = assert(helper.open(at, { clock = "manual" }))
      assert.same({ "b", "c" }, payloads(other:queue("orders"):take {
        limit = 9 }))
      assert.same({}, other:check())
    end
  end)

  -- It said that the copy had been made.
  it("goes along with a copy, or there is none", function()
    q:push "a"
    local copy = helper.location()
    local said = helper.sh(("trap '' XFSZ; prlimit --fsize=1000000 %s "
      .. "bin/respool compact '%s' --to '%s' 2>&1; echo $?")
      :format(helper.lua(), store.path, copy))
    assert.matches("cannot copy the journal to", said)
    assert.matches("%f[%d][^0]%d*$", said)
    local made, _, code = helper.open(copy, { create = false })
    assert.same({ nil, "NOT_FOUND" }, { made, code })
  end)

  -- Repair crashed where the position lay in a damaged page.
  it("is brought back when LMDB's position in it is lost", function()
    q:push_many { "a", "b" }
    apply()
    q:push "c"
    local path, mended = store.path, helper.location()
    assert(store:close())
    local bytes, n = helper.read(path .. "/data.mdb")
      :gsub("..(..%z%z\7%zjournal)", "\255\255%1")
    assert.is_true(n > 0)
    helper.write(path .. "/data.mdb", bytes)
    local done = assert(respool.repair(path, mended))
    assert.matches("settled items may be back", table.concat(done.findings))
    local other = assert(helper.open(mended, { clock = "manual" }))
    assert.same({ "a", "b", "c" }, payloads(other:queue("orders"):peek(9)))
    assert.same({}, other:check())
  end)

  -- The older half was applied with some items of a batch, and the rest later
  -- under a claim of its own, which nobody settled.
  it("gives up the items of one batch in two parts", function()
    store = helper.store { sync = "relaxed" }
    q = assert(store:queue "orders")
    local function push(n)
      for _ = 1, n do q:push(("x"):rep(100)) end
    end
    for _ = 1, 11 do
      push(500)
      local early = take(500)
      early:done()
      assert(early:settle())
    end
    push(510)
    local batch = take(510)
    push(3500)
    assert.is_true(entries "claims" > 0)
    assert(batch:extend(60))
    batch:done()
    assert(batch:settle())
    local stats = q:stats()
    assert.same({ 0, 3500 }, { stats.leased, stats.ready })
  end)

  it("begins its halves over and over", function()
    store = helper.store { sync = "relaxed" }
    q = assert(store:queue "orders")
    local pushed, settled = 0, 0
    for round = 1, 300 do
      for _ = 1, 40 do
        q:push(("x"):rep(100))
        pushed = pushed + 1
      end
      local batch = take(round % 3 == 0 and 60 or 20)
      batch:done()
      assert(batch:settle())
      settled = settled + #batch
    end
    assert.equal(pushed - settled, q:length().ready)
    repeat
      local batch = take(1000)
      batch:done()
      assert(batch:settle())
      settled = settled + #batch
    until #batch == 0
    assert.equal(pushed, settled)
    assert.equal(pushed, q:stats().done)
  end)
end)

-- What another process does with the queue `q` of the store.
local function elsewhere(code)
  local other = helper.spawn([[
    local respool = require "respool"
    local store = assert(respool.open(arg[1], { clock = "manual" }))
    store:advance(tonumber(arg[2]) - store:now())
    local q = assert(store:queue "orders")
    ]] .. code .. [[ print "ready"]], store.path, ("%.3f"):format(store:now()))
  other:expect "ready"
  other:wait()
end

describe("the journal of a queue with flow", function()
  local AWAY = { error = "connection refused", group = "refused", delay = 1 }

  it("hands out nothing while another process holds the queue", function()
    q:push_many { "a", "b" }
    elsewhere "assert(q:hold(10))"
    assert.equal(0, #take(9))
    q:push "c"
    assert.equal(3, q:length().ready)
    store:advance(9)
    assert.equal(0, #take(9))
    store:advance(1)
    assert.same({ "a", "b", "c" }, payloads(take(9)))
  end)

  it("takes up small pushes again when a hold is over", function()
    assert(q:hold(10))
    q:push "a"
    assert.equal(1, entries "segments")
    store:advance(10)
    local batch = take()
    batch:done()
    assert(batch:settle())
    q:push "b"
    assert.equal(0, entries "segments")
    assert.same({ "b" }, payloads(take()))
  end)

  -- The journal's clock, from before the step, was taken up again by the next
  -- step of a transaction in which the queue's began anew: holds were over.
  it("keeps to a hold when the clock of an empty queue goes back", function()
    q:push "a"
    q:hold(60)
    store:advance(-3600)
    q:push "b"
    assert.equal(2, q:purge())
    assert(store:transaction(function(tx)
      tx:push(q, "c")
      tx:push(q, "d")
    end))
    store:advance(59)
    assert.equal(0, #take())
    store:advance(1)
    assert.same({ "c", "d" }, payloads(take(2)))
  end)

  -- A settle of LMDB's items left the journal's where they were, and set the
  -- clock as if there were none.
  it("ends no lease later when a settle sets the queue's clock", function()
    q:push("old", { delay = 1 })
    store:advance(1)
    local lost = take()
    store:advance(31)
    local old = take()
    q:push "new"
    local new = take()
    store:advance(-3600)
    old:done()
    assert(old:settle())
    lost:done()
    assert.is_nil((lost:settle()))
    store:advance(31)
    assert.same({ "new" }, payloads(take()))
    assert.equal("new", new:item(1).payload) -- not collected meanwhile
  end)

  it("is held by an item of its own", function()
    q:push_many { "a", "b" }
    local batch = take()
    batch:item(1):hold(10)
    assert(batch:settle())
    assert.equal(0, #take(9))
    store:advance(10)
    assert.same({ "a", "b" }, payloads(take(9)))
  end)

  it("goes by a rate that is set while items are leased there", function()
    q:push_many { 1, 2, 3, 4, 5, 6 }
    local early = take(2)
    store:queue("orders", { rate = { items = 1, per = 10, burst = 2 } })
    assert.same({ 3, 4 }, payloads(take(9)))
    assert.equal(0, #take(9))
    assert(early:extend(60))
    early:done()
    assert(early:settle())
    q:push(7)
    assert.equal(0, #take(9))
    store:advance(10)
    assert.same({ 5 }, payloads(take(9)))
    store:queue("orders", { rate = false })
    assert.same({ 6, 7 }, payloads(take(9)))
    assert.equal(2, q:stats().done)
  end)

  it("is not used by a queue with a rate", function()
    store:queue("orders", { rate = { items = 1, per = 10, burst = 2 } })
    q:push_many { 1, 2, 3 }
    assert.equal(1, entries "segments")
    assert.same({ 1, 2 }, payloads(take(9)))
  end)

  it("tells a breaker what becomes of leases that were given before it",
     function()
    q:push_many { 1, 2, 3 }
    local early = { take(), take() }
    store:queue("orders", { breaker = { failures = 2, cooldown = 60 } })
    for _, batch in ipairs(early) do
      batch:retry(AWAY)
      assert(batch:settle())
    end
    assert.equal("open", q:stats().breaker)
    assert.equal(0, q:get(1).attempts)
    assert.equal(0, #take(9))
    store:advance(60)
    local probe = take(9)
    assert.equal(1, #probe)
    probe:done()
    assert(probe:settle())
    assert.equal("closed", q:stats().breaker)
  end)
end)

describe("what the journal has no part in", function()
  it("comes behind what it holds: a schedule's push", function()
    q:push "a"
    assert(store:schedule("often", { cron = "* * * * *", queue = q,
                                     payload = "tick" }))
    store:advance(60)
    assert.equal(1, store:maintain().ticks)
    q:push "b"
    assert.same({ "a", "tick", "b" }, payloads(take(9)))
  end)

  it("leaves its items alone: a push of a dead letter, and its replay",
     function()
    q:push "a"
    assert(q.dead:push("lost", { error = "no such user" }))
    assert.same({ "a" }, payloads(q:peek(9)))
    assert.equal(1, q.dead:count())
    assert(q.dead:replay())
    q:push "b"
    assert.same({ "a", "lost", "b" }, payloads(take(9)))
  end)

  it("is found among its items: one with a key", function()
    q:push_many { "a", "b" }
    q:push("keyed", { key = "k" })
    q:push "c"
    assert.equal("keyed", q:get { key = "k" }.payload)
    assert.equal("c", q:get(4).payload)
    assert.is_true(q:remove(4))
    assert.is_true(q:remove(1))
    assert.is_nil(q:get(1))
    assert.same({ "b", "keyed" }, payloads(q:peek(9)))
  end)

  it("is counted and listed with them", function()
    q:push("later", { delay = 60 })
    q:push("solid", { key = "k" })
    q:push_many { "a", "b", "c" }
    local batch = take(2)
    assert.same({ "solid", "a" }, payloads(batch))
    local length, stats = q:length(), q:stats()
    assert.same({ 2, 2, 1, 5 }, { length.ready, length.leased,
                                  length.scheduled, length.total })
    assert.same({ 2, 2, 1, 5 }, { stats.ready, stats.leased,
                                  stats.scheduled, stats.pushed })
    local seen = {}
    for item in q:each() do seen[#seen + 1] = item.id end
    table.sort(seen)
    assert.same({ 1, 2, 3, 4, 5 }, seen)
    assert.same({ "b", "c" }, payloads(q:peek(9)))
  end)
end)
