-- SPDX-License-Identifier: MIT
--
-- History: finished items that a queue keeps, and copies of them pushed
-- again.

local cli = require "spec.helper.cli"
local helper = require "spec.helper"
local killed = require "spec.helper.killed"
local respool = require "respool"
local payloads = helper.payloads

local store, q, start

before_each(function()
  store = helper.store()
  q = assert(store:queue("orders", { keep_done = 100 }))
  start = store:now()
end)

-- Does one item after the other, ten seconds apart: at 10, 20, 30 ...
local function finish(list)
  q:push_many(list)
  q:work(function() store:advance(10) end,
    { stop_when_empty = true, batch = 1 })
end

local function ready(queue)
  return payloads(queue:peek(100))
end

describe("the history of a queue", function()
  it("is empty when it keeps nothing", function()
    q = store:queue "forgetful"
    finish { 1 }
    assert.equal(0, q.history:count())
    assert.same({}, q.history:list())
    assert.equal(0, q:stats().kept)
  end)

  it("lists what was done, in the order of its end", function()
    finish { "a", "b", "c" }
    local items = q.history:list()
    assert.same({ "a", "b", "c" }, payloads(items))
    assert.near(start + 10, items[1].done_at, 0.001)
    assert.equal(1, items[1].id)
    assert.equal("orders", items[1].queue)
    assert.equal(1, items[1].deliveries)
    assert.equal(3, q.history:count())
    assert.equal(3, q:stats().kept)
    assert.is_true(q:stats().kept_bytes > 0)
  end)

  it("has whole items, with headers and key", function()
    q:push({ n = 1 }, { priority = 9, headers = { trace = "x" }, key = "k" })
    q:work(function() end, { stop_when_empty = true })
    local item = q.history:list()[1]
    assert.same({ n = 1 }, item.payload)
    assert.same({ trace = "x" }, item.headers)
    assert.equal("k", item.key)
    assert.equal(9, item.priority)
  end)

  it("does not have what died, was removed or is not done", function()
    q:push_many { "dead", "removed", "leased", "ready" }
    q:work(function() return respool.dead() end, { limit = 1 })
    q:remove(2)
    q:take()
    assert.same({}, q.history:list())
  end)

  it("lists by time: from it on, and before it", function()
    finish { "a", "b", "c", "d" }
    local items = q.history:list { since = start + 20, before = start + 40 }
    assert.same({ "b", "c" }, payloads(items))
  end)

  it("lists page by page", function()
    finish { "a", "b", "c" }
    local first = q.history:list { limit = 2 }
    assert.same({ "a", "b" }, payloads(first))
    assert.same({ "c" }, payloads(q.history:list { after = first[2] }))
  end)

  it("is walked over in pages, whatever ended in one moment", function()
    local list, seen = {}, {}
    for i = 1, 250 do list[i] = i end
    q:push_many(list)
    q:work(function() end, { stop_when_empty = true })
    for item in q.history:each() do seen[#seen + 1] = item.payload end
    assert.same(list, seen)
    local before = 0
    for _ in q.history:each { before = start } do before = before + 1 end
    assert.equal(0, before)
  end)

  it("holds the large and the unreadable", function()
    local raw = store:queue("orders", { codec = "raw" })
    raw:push(("x"):rep(100000))
    helper.push_bytes(raw, "\255")
    raw:work(function() end, { stop_when_empty = true })
    assert.equal(100000, #raw.history:list()[1].payload)
    local items = q.history:list()
    assert.is_nil(items[2].payload)
    assert.equal("\255", items[2].bytes)
  end)

  it("forgets what is older than it keeps, when it is cared for", function()
    finish { "a", "b" }
    store:advance(85)
    assert.equal(0, store:maintain().history)
    store:advance(6)
    assert.equal(1, store:maintain().history)
    assert.same({ "b" }, payloads(q.history:list()))
    assert.equal(1, q:stats().kept)
    assert.same({}, store:check())
  end)

  it("forgets the oldest when it grows beyond its bytes", function()
    q = store:queue("orders", { keep_done = "10KiB", codec = "raw" })
    for i = 1, 5 do q:push(tostring(i):rep(4000)) end
    q:work(function() store:advance(1) end, { stop_when_empty = true })
    store:maintain()
    local items = q.history:list()
    assert.equal(2, #items)
    assert.equal("5", items[2].payload:sub(1, 1))
    assert.is_true(q:stats().kept_bytes <= 10240)
  end)

  it("counts results to its bytes, and forgets both together", function()
    local first = assert(q:push_many { 1, 2, 3, 4, 5 })
    q:work(function(n)
      store:advance(1)
      return tostring(n):rep(4000)
    end, { stop_when_empty = true, batch = 1 })
    assert.is_true(q:stats().kept_bytes > 20000)
    assert.same({}, store:check())
    q = store:queue("orders", { keep_done = "10KiB" })
    store:maintain()
    assert.same({ 4, 5 }, payloads(q.history:list()))
    assert.is_true(q:stats().kept_bytes <= 10240)
    assert.is_nil((q:result(first + 2)))
    assert.equal(("4"):rep(4000), q:result(first + 3))
    q = store:queue("orders", { keep_done = 1 })
    store:advance(10)
    store:maintain()
    assert.same({ 0, 0 }, { q:stats().kept, q:stats().kept_bytes })
    assert.same({}, store:check())
  end)

  it("has items that were cancelled, waiting and leased", function()
    q = store:queue("orders", { keep_done = 100, max_attempts = 5 })
    local first = assert(q:push_many { "a", "b", "c", "d" })
    local batch = assert(q:take { limit = 3 })
    assert(q:cancel(first + 1))
    assert(q:cancel(first + 3))
    batch[1]:done "x"
    batch[2]:done "y"
    assert.is_nil((batch:settle()))
    batch:close()
    local found = {}
    for item in q.history:each() do
      found[#found + 1] = item.payload .. " " .. item.state .. " "
        .. item.deliveries
    end
    table.sort(found)
    assert.same({ "a done 1", "b cancelled 1", "d cancelled 0" }, found)
    assert.equal(3, q:stats().kept)
    assert.same({ 1, 2 }, { q:stats().done, q:stats().removed })
    assert.equal("x", q:result(first))
    assert.is_nil((q:result(first + 1)))
    assert.same({}, store:check())
  end)

  -- On PostgreSQL runs of ids that have some in common, or lie in each other,
  -- used to hide each other where they came to their end at one moment.
  it("has what came to its end at one moment, page by page", function()
    q:push_many { "a", "b", "c", "d", "e", "f" }
    local batch = assert(q:take { limit = 6 })
    for _, i in ipairs { 5, 1, 3 } do
      batch[i]:done()
      assert(batch:settle())
    end
    local ids = {}
    for i = 1, 6 do ids[i] = batch[i].id end
    assert(q:cancel(ids[2]))
    batch[4]:done()
    assert(batch:settle())
    assert(q:cancel(ids[6]))
    batch:close()
    local seen, last = {}, nil
    repeat
      local list = assert(q.history:list { limit = 1, after = last })
      last = list[1]
      seen[#seen + 1] = last and last.payload
    until not last
    table.sort(seen)
    assert.same({ "a", "b", "c", "d", "e", "f" }, seen)
    assert.same({}, store:check())
  end)

  it("never takes unfinished items with it", function()
    q = store:queue("orders", { keep_done = "1B" })
    q:push_many { "a", "b" }
    q:work(function() end, { limit = 1 })
    store:maintain()
    assert.same({ "b" }, ready(q))
    assert.equal(0, q.history:count())
    assert.same({}, store:check())
  end)

  -- A queue that was dropped used to leave its history and the windows of
  -- its keys behind, under a number that no queue would have again.
  it("goes with the queue, and gives its room back", function()
    local raw = store:queue("orders", { codec = "raw" })
    local function fill()
      for i = 1, 5 do
        raw:push(("x"):rep(100000), { key = "k" .. i, dedup = 1000 })
      end
      raw:work(function() end, { stop_when_empty = true })
      store:drop_queue "orders"
      raw = store:queue("orders", { keep_done = 100, codec = "raw" })
    end
    fill()
    local used = store:stats().used_bytes
    for _ = 1, 5 do fill() end
    assert.is_true(store:stats().used_bytes < used + 200000)
    assert.equal(0, raw.history:count())
    assert(raw:push("a", { key = "k1" }))
    assert.same({}, store:check())
  end)

  it("stays when the queue cannot be dropped", function()
    finish { "a" }
    q:push "b"
    q:take()
    assert.equal("BUSY", select(3, store:drop_queue "orders"))
    assert.equal(1, q.history:count())
  end)

  it("refuses what is no time and no item", function()
    local wrong = { since = "x", before = -1, limit = 0, after = 5 }
    for name, value in pairs(wrong) do
      assert.error_matches(function() q.history:list { [name] = value } end,
                           "history:list: option '" .. name .. "' must be")
    end
    assert.error_matches(function() q.history:each { limit = 1 } end,
                         "history:each: unknown option 'limit'")
  end)
end)

describe("a replay of history", function()
  it("pushes copies as new items; what was kept stays", function()
    finish { "a", "b" }
    local counts = q.history:replay()
    assert.same({ seen = 2, pushed = 2, skipped = 0, failed = 0, errors = {} },
                counts)
    assert.same({ "a", "b" }, ready(q))
    assert.equal(3, q:peek()[1].id)
    assert.equal(2, q.history:count())
  end)

  it("takes a span of time", function()
    finish { "a", "b", "c", "d" }
    q.history:replay { since = start + 20, before = start + 40 }
    assert.same({ "b", "c" }, ready(q))
  end)

  it("chooses, changes and goes to another queue", function()
    local other = store:queue "other"
    finish { 1, 2, 3, 4 }
    local counts = q.history:replay {
      where = function(item) return item.payload % 2 == 0 end,
      transform = function(n) return n * 10 end,
      to = other,
    }
    assert.equal(2, counts.pushed)
    assert.equal(2, counts.skipped)
    assert.same({ 20, 40 }, ready(other))
    assert.same({}, ready(q))
  end)

  it("keeps headers, priority and version, but not the key", function()
    q = store:queue("orders", { version = 3 })
    q:push("a", { priority = 9, headers = { x = 1 }, key = "k" })
    q:work(function() end, { stop_when_empty = true })
    store:queue("orders").history:replay()
    local item = q:peek()[1]
    assert.equal(9, item.priority)
    assert.same({ x = 1 }, item.headers)
    assert.equal(3, item.version)
    assert.is_nil(item.key)
  end)

  -- Copies had no partition: neither its order nor its bounds held for them.
  it("keeps the partition, where the target takes such items", function()
    q:push("a", { partition = "ada" })
    q:work(function() end, { stop_when_empty = true })
    assert.equal(1, q.history:replay().pushed)
    assert.equal("ada", q:peek()[1].partition)
    local strict = assert(store:queue("strict", { ordered = true }))
    local counts = assert(q.history:replay { to = strict })
    assert.same({ 0, 1 }, { counts.pushed, counts.failed })
    assert.matches("strict order has no partitions", counts.errors[1])
  end)

  it("leaves out what was cancelled, unless it is wanted", function()
    local id = assert(q:push "no")
    assert(q:cancel(id))
    finish { "yes" }
    assert.equal(1, q.history:replay().pushed)
    assert.same({ "yes" }, ready(q))
    q:purge()
    q.history:replay { where = function(item)
      return item.state == "cancelled"
    end }
    assert.same({ "no" }, ready(q))
  end)

  it("copies bytes that cannot be decoded as they are", function()
    local raw = store:queue("orders", { codec = "raw" })
    raw:push "\255"
    raw:work(function() end, { stop_when_empty = true })
    assert.equal(1, q.history:replay().pushed)
    assert.equal("\255", raw:peek()[1].payload)
  end)

  it("goes to a queue of another codec decoded and encoded", function()
    local raw = store:queue("raw", { codec = "raw" })
    finish { "a" }
    q.history:replay { to = raw }
    assert.equal("a", raw:peek()[1].bytes)
  end)

  it("counts what its functions refuse and goes on", function()
    finish { 1, 2, 3, 4 }
    local checked = store:queue("checked", {
      validate = function(n) if n == 4 then error("not 4", 0) end end,
    })
    local counts = q.history:replay {
      to = checked,
      where = function(item) if item.payload == 1 then error("1!", 0) end
        return true end,
      transform = function(n) if n ~= 2 then return n end end,
    }
    assert.equal(1, counts.pushed)
    assert.same({ "item 1: 1!", "item 2: transform returned nothing",
                  "item 4: not 4" }, counts.errors)
    assert.same({ 3 }, ready(checked))
  end)

  it("stops at a limit", function()
    finish { 1, 2, 3 }
    local counts = q.history:replay {
      limit = 1, where = function(item) return item.payload > 1 end,
    }
    assert.equal(1, counts.pushed)
    assert.same({ 2 }, ready(q))
  end)

  it("tells what was pushed before an error", function()
    local small = store:queue("small", { max_items = 100 })
    local list = {}
    for i = 1, 150 do list[i] = i end
    q:push_many(list)
    q:work(function() end, { stop_when_empty = true })
    local ok, _, code, counts = q.history:replay { to = small }
    assert.is_nil(ok)
    assert.equal("FULL", code)
    assert.equal(100, counts.pushed)
    assert.equal(100, small:length().ready)
  end)
end)

describe("a named replay of history", function()
  local other

  before_each(function()
    other = assert(store:queue "other")
  end)

  local function run(o)
    o = o or {}
    o.name, o.to = o.name or "again", o.to or other
    local counts, message, code, so_far = q.history:replay(o)
    if not counts then return nil, code, message, so_far.pushed end
    return counts.pushed, counts.state
  end

  it("goes on where it was, and after its end with what was done since",
     function()
    finish { 1, 2, 3, 4, 5 }
    assert.same({ 2, "stopped" }, { run { limit = 2 } })
    assert.same({ 3, "finished" }, { run() })
    assert.same({ 0, "finished" }, { run() })
    finish { 6, 7 }
    assert.same({ 2, "finished" }, { run() })
    assert.same(helper.range(7), ready(other))
    local kept = store:replay "again"
    assert.same({ "orders", "other", true, 2, "finished" },
      { kept.dlq, kept.to, kept.history, kept.moved, kept.state })
  end)

  it("pushes each item once, though it is killed", function()
    store:queue("orders"):push_many(helper.range(350))
    q:work(function() end, { stop_when_empty = true })
    local runner = helper.spawn([[
      local store = assert(require "respool".open(arg[1]))
      store:queue "orders".history:replay {
        name = "again", to = assert(store:queue "other"),
        where = function(item)
          if item.payload < 250 then return true end
          print "two pages"
          io.stdout:flush()
          store.handle:sleep(60)
        end }
    ]], store.path)
    runner:expect "two pages"
    local pushed, code, message = run()
    assert.same({ nil, "LOCKED" }, { pushed, code })
    assert.matches("named replay 'again' is run by process %d+", message)
    runner:kill()
    assert.equal(200, other:length().total)
    assert.equal("interrupted", store:replay "again".state)
    assert.same({ 150, "finished" }, { run() })
    local pushed_all = {}
    for item in other:each() do pushed_all[#pushed_all + 1] = item.payload end
    table.sort(pushed_all)
    assert.same(helper.range(350), pushed_all)
  end)

  -- The page was committed, and the run did not know: it left the replay as one
  -- that runs, of a runner that is gone.
  it("is stopped by an interrupt that cuts off a page, and goes on", function()
    finish(helper.range(7))
    local tx = assert(store.handle:begin())
    local methods = killed.methods_of(tx)
    tx:close()
    local commit = methods.commit
    methods.commit = function(...)
      assert(commit(...))
      error("interrupted!", 0)
    end
    local ok, message = pcall(run)
    methods.commit = commit
    assert.same({ false, "interrupted!" }, { ok, message })
    assert.same({ "stopped", other:length().total },
                { store:replay "again".state, store:replay "again".moved })
    run()
    assert.same(helper.range(7), ready(other))
  end)

  it("ends when it is cancelled or forgotten, behind the page in hand",
     function()
    store:queue("orders"):push_many(helper.range(250))
    q:work(function() end, { stop_when_empty = true })
    local function cancel(item)
      if item.payload == 150 then store:cancel_replay "again" end
      return true
    end
    assert.same({ 100, "cancelled" }, { run { where = cancel } })
    local function forget(item)
      if item.payload == 250 then store:remove_replay "again" end
      return true
    end
    assert.same({ 100, "cancelled" }, { run { where = forget } })
    assert.same({}, store:replays())
    assert.equal(200, other:length().total)
  end)

  -- A page of 100 never fitted a smaller queue.
  it("moves what fits a bounded queue, and the rest when there is room",
     function()
    q:push_many(helper.range(60))
    q:work(function() end, { stop_when_empty = true })
    local small = assert(store:queue("small", { max_items = 25 }))
    local seen = {}
    local function drain()
      small:work(function(n) seen[#seen + 1] = n end,
        { stop_when_empty = true })
    end
    for _, moved in ipairs { 25, 25 } do
      local _, code, _, so_far = run { to = small }
      assert.same({ "FULL", moved }, { code, so_far })
      drain()
    end
    assert.same({ 10, "finished" }, { run { to = small } })
    drain()
    assert.same(helper.range(60), seen)
  end)

  it("is refused under the name of another replay", function()
    finish { 1 }
    q:push "dies"
    q:work(function() return respool.dead {} end, { limit = 1 })
    assert(q.dead:replay { name = "dead" })
    assert.has_error(function() return run { name = "dead" } end,
      "history:replay: replay 'dead' is of DLQ 'orders'")
    run()
    assert.has_error(function() return run { to = q } end,
      "history:replay: replay 'again' is of the history of queue 'orders', "
        .. "to queue 'other'")
    assert.has_error(function() return q.dead:replay { name = "again" } end,
      "dead:replay: replay 'again' is of the history of queue 'orders'")
  end)

  it("is told in the list of replays", function()
    finish { 1 }
    run()
    local list = cli.run { "replay", "list", store.path }
    assert.matches("again +history of orders +other +finished +1 +1 ", list.out)
  end)
end)
