-- SPDX-License-Identifier: MIT
--
-- Merging: a push joins the unflushed item of the same key, and a consumer
-- folds what it takes before the handler sees it.

local helper = require "spec.helper"
local respool = require "respool"

local empty = { stop_when_empty = true }
local huge = math.huge

local store, q

local function key(p) return p.k end
local function with(old, new) return { k = old.k, n = old.n + new.n } end

local SUM = { key = key, with = with }

local function queue(options, buffer)
  local all = { merge = SUM, buffer = buffer or {
    items = huge, bytes = huge, interval = 3600 } }
  for name, value in pairs(options or {}) do all[name] = value end
  q = assert(store:queue("sums", all))
  return q
end

local function push(...)
  for _, p in ipairs { ... } do
    assert.is_true(q:push { k = p[1], n = p[2] })
  end
end

-- The stored payloads: "a7 b2".
local function stored()
  local list = {}
  for item in q:each() do
    local p = item.payload
    list[#list + 1] = tostring(p.k) .. p.n
  end
  return table.concat(list, " ")
end

before_each(function() store = helper.store() end)

describe("a merging queue", function()
  it("folds a push into the unflushed item with its key", function()
    queue()
    push({ "a", 1 }, { "b", 2 }, { "a", 3 }, { "a", 3 })
    assert(q:flush())
    assert.equal("a7 b2", stored())
  end)

  -- The copy that is folded lacked it, so that concurrency and order of
  -- partitions did not hold for a merging queue.
  it("keeps the partition of the last push, also of what is not folded",
     function()
    queue { partitions = { concurrency = 1 } }
    q:push({ k = "a", n = 1 }, { partition = "ada" })
    q:push({ n = 5 }, { partition = "cy" })
    q:push({ k = "a", n = 2 }, { partition = "bob" })
    q:push { k = "b", n = 9 }
    assert(q:flush())
    local list = {}
    for item in q:each() do
      list[#list + 1] = ("%d %s"):format(item.payload.n,
                                         tostring(item.partition))
    end
    table.sort(list)
    assert.same({ "3 bob", "5 cy", "9 nil" }, list)
  end)

  -- Folded items came behind all others of the buffer.
  it("keeps the order of first pushes, folded or not", function()
    queue()
    push({ nil, 1 }, { "a", 2 }, { nil, 3 }, { "b", 4 }, { "a", 5 },
         { nil, 6 }, { "c", 7 })
    assert(q:flush())
    assert.equal("nil1 a7 nil3 b4 nil6 c7", stored())
  end)

  it("keeps it for each priority, and where flushes do in part", function()
    queue { max_items = 3 }
    for i = 1, 9 do
      assert(q:push({ k = i % 2 == 0 and i or nil, n = i },
                    { priority = i % 3 }))
    end
    local seen = {}
    while q:stats().buffer.items > 0 do
      q:flush()
      q:work(function(p, item)
        seen[item.priority] = (seen[item.priority] or "") .. p.n
      end, { timeout = 0 })
    end
    assert.same({ [0] = "369", "147", "258" }, seen)
  end)

  it("folds nothing into what is flushed", function()
    queue()
    push { "a", 1 }
    assert(q:flush())
    push { "a", 2 }
    assert(q:flush())
    assert.equal("a1 a2", stored())
  end)

  it("lets payloads without a key be", function()
    queue()
    push({ nil, 1 }, { nil, 2 })
    assert(q:flush())
    assert.equal(2, q:length().ready)
  end)

  it("takes numbers for keys", function()
    queue()
    push({ 1, 1 }, { 2, 1 }, { 1, 1 })
    assert(q:flush())
    assert.equal("12 21", stored())
  end)

  -- On 5.3 and later 1 and 1.0 were two keys; before, large numbers that
  -- differ were one.
  it("takes equal numbers for one key, others for several", function()
    queue()
    push({ 1, 1 }, { 1.0, 1 }, { -0.0, 1 }, { 0, 1 })
    push({ 2^53, 1 }, { 2^53 - 1, 1 }, { 2^53, 1 })
    push({ 0.1, 1 }, { "0.1", 1 }, { 0.1 + 2^-54, 1 })
    assert(q:flush())
    local sums = {}
    for item in q:each() do sums[#sums + 1] = item.payload.n end
    assert.same({ 2, 2, 2, 1, 2, 1 }, sums)
  end)

  it("counts pushes apart from items", function()
    queue(nil, { items = 2, pushes = 5, bytes = huge, interval = 3600 })
    push({ "a", 1 }, { "a", 1 }, { "a", 1 }, { "a", 1 })
    assert.equal(1, q:stats().buffer.items)
    push { "a", 1 }
    assert.equal("a5", stored())
    assert.equal(1, q:stats().buffer.flushes.pushes)
    push({ "a", 1 }, { "b", 1 })
    assert.equal(1, q:stats().buffer.flushes.items)
  end)

  it("gives a folded item the options of its last push", function()
    queue()
    assert(q:push({ k = "a", n = 1 }, { priority = 1, headers = { n = 1 } }))
    assert(q:push({ k = "a", n = 1 }, { priority = 5 }))
    assert(q:flush())
    local item = q:peek()[1]
    assert.equal(5, item.priority)
    assert.is_nil(item.headers)
  end)

  it("folds with any codec", function()
    queue { codec = "raw", merge = {
      key = function(s) return s:sub(1, 1) end,
      with = function(old, new) return old .. new end } }
    assert(q:push "a1")
    assert(q:push "b2")
    assert(q:push "a3")
    assert(q:flush())
    assert.equal("a1a3", q:peek()[1].payload)
  end)

  it("folds ten thousand pushes into a hundred items", function()
    queue()
    for i = 1, 10000 do push { "k" .. i % 100, 1 } end
    assert(q:flush())
    assert.equal(100, q:length().ready)
    for item in q:each() do assert.equal(100, item.payload.n) end
  end)

  it("loses nothing to flushes in the background", function()
    store = assert(helper.open(helper.location(), { sync = "relaxed" }))
    queue(nil, { items = 3, pushes = 7, interval = 0.001 })
    for i = 1, 2000 do push { "k" .. i % 5, 1 } end
    assert(q:flush())
    local sum = 0
    for item in q:each() do sum = sum + item.payload.n end
    assert.equal(2000, sum)
  end)

  it("raises what its functions raise, and nothing has changed", function()
    local bad = { key = key, with = function() error "cannot add" end }
    queue { merge = bad }
    push { "a", 1 }
    assert.error_matches(function() push { "a", 2 } end, "cannot add")
    assert(q:flush())
    assert.equal("a1", stored())
    queue { merge = { key = function() error "no key" end, with = with } }
    assert.error_matches(function() push { "a", 2 } end, "no key")
    assert.equal(0, q:stats().buffer.items)
  end)

  it("raises when its functions return nonsense", function()
    queue { merge = { key = function() return {} end, with = with } }
    assert.error_matches(function() push { "a", 2 } end,
                         "'key' returned a table instead of a string")
    queue { merge = { key = key, with = function() end } }
    push { "a", 1 }
    assert.error_matches(function() push { "a", 2 } end,
                         "'with' returned nothing")
  end)

  it("knows a payload that its check refuses", function()
    queue { validate = function(p) assert(p.n > 0, "not positive") end }
    assert.error_matches(function() push { "a", 0 } end, "not positive")
  end)

  it("has no other keys", function()
    queue()
    assert.error_matches(function()
      q:push({ k = "a", n = 1 }, { key = "a", on_conflict = "ignore" })
    end, "'key' is not for a merging queue")
  end)

  it("needs a buffer, and both functions", function()
    assert.error_matches(function()
      store:queue("sums", { merge = SUM })
    end, "'merge' needs a 'buffer'")
    for _, bad in ipairs { true, {}, { key = key }, { with = with },
                           { key = key, with = with, also = 1 } } do
      assert.error_matches(function()
        store:queue("sums", { buffer = {}, merge = bad })
      end, "option 'merge' must be { key = function, with = function }")
    end
  end)
end)

describe("work with merge", function()
  local function items(...)
    q = assert(store:queue("sums", {
      retry = respool.backoff.constant { delay = 10 }, max_attempts = 2 }))
    for _, p in ipairs { ... } do assert(q:push { k = p[1], n = p[2] }) end
  end

  local function work(handler, options)
    local all = { stop_when_empty = true, merge = SUM }
    for name, value in pairs(options or {}) do all[name] = value end
    return q:work(handler, all)
  end

  it("hands folded items to the handler once", function()
    items({ "a", 1 }, { "b", 2 }, { "a", 3 }, { nil, 9 }, { nil, 9 })
    local seen = {}
    local counts = work(function(p, item)
      table.insert(seen, ("%s%d:%d"):format(tostring(p.k), p.n, item.id))
    end)
    assert.same({ "a4:1", "b2:2", "nil9:4", "nil9:5" }, seen)
    assert.equal(5, counts.items)
    assert.equal(5, counts.done)
    assert.equal(0, q:length().total)
  end)

  it("folds in push order", function()
    items({ "a", 1 }, { "a", 2 }, { "a", 3 })
    local seen
    work(function(p) seen = p.list end, { merge = {
      key = key,
      with = function(old, new)
        local list = old.list or { old.n }
        table.insert(list, new.n)
        return { list = list }
      end } })
    assert.same({ 1, 2, 3 }, seen)
  end)

  it("uses the queue's own merge", function()
    queue()
    push { "a", 1 }
    assert(q:flush())
    push { "a", 2 }
    assert(q:flush())
    local sum
    q:work(function(p) sum = p.n end, { stop_when_empty = true, merge = true })
    assert.equal(3, sum)
  end)

  it("settles folded items alike when the handler fails", function()
    items({ "a", 1 }, { "b", 1 }, { "a", 1 })
    local told = 0
    local counts = work(function(p) if p.k == "a" then error "no" end end, {
      limit = 3, on_error = function() told = told + 1 end })
    assert.equal(2, counts.failed)
    assert.equal(1, counts.done)
    assert.equal(1, told)
    assert.equal(2, q:length().retrying)
    for item in q:each() do
      assert.equal(1, item.attempts)
      assert.matches("no$", item.error)
    end
  end)

  it("settles folded items alike whatever the outcome", function()
    for _, outcome in ipairs { "dead", "drop", "snooze" } do
      items({ "a", 1 }, { "a", 1 })
      local counts = work(function()
        return outcome == "snooze" and respool.snooze(5)
          or respool[outcome] { error = "why" }
      end, { limit = 2 })
      assert.equal(2, counts.failed + counts.snoozed)
      assert(q:purge())
    end
    assert.equal(2, q.dead:count())
    for dead_letter in q.dead:each() do assert.equal("why",
      dead_letter.error) end
  end)

  it("settles folded items as the handler marks the first", function()
    items({ "a", 1 }, { "a", 1 })
    work(function(_, item) item:release() end, { limit = 2 })
    assert.equal(2, q:length().ready)
    work(function(_, item) item:retry { delay = 3, error = "later" } end,
         { limit = 2 })
    assert.equal(2, q:length().retrying)
    assert.equal("later", q:get(2).error)
    store:advance(3)
    work(function(_, item) item:done() end, { limit = 2 })
    assert.equal(0, q:length().total)
  end)

  it("tells on_dead of each", function()
    local dead = {}
    q = assert(store:queue("sums", { max_attempts = 1, on_dead = function(d)
      table.insert(dead, d.item.id)
    end }))
    for _ = 1, 3 do assert(q:push { k = "a", n = 1 }) end
    work(function() error "no" end)
    table.sort(dead)
    assert.same({ 1, 2, 3 }, dead)
    assert.equal(3, q.dead:count())
  end)

  it("releases what it did not come to", function()
    items({ "a", 1 }, { "b", 1 }, { "a", 1 }, { "b", 1 })
    local counts = work(function() q:stop() end)
    assert.equal(2, counts.done)
    assert.equal(2, counts.released)
    assert.equal(2, q:length().ready)
    assert.equal("b", q:peek()[1].payload.k)
  end)

  it("blames the item that cannot be folded, alone", function()
    items({ "a", 1 }, { "a" }, { "a", 2 })
    local seen
    local counts = work(function(p) seen = p.n end, { limit = 3 })
    assert.equal(3, seen)
    assert.equal(2, counts.done)
    assert.equal(1, counts.failed)
    assert.matches("arithmetic", q:get(2).error)
  end)

  -- A fan-out of which the second handler fails, and what the two accepted.
  local function mail_and_sms()
    local seen = { mail = {}, sms = {}, is_down = true }
    return respool.fan_out {
      mail = function(p) table.insert(seen.mail, p.n) end,
      sms = function(p)
        if seen.is_down then error "down" end
        table.insert(seen.sms, p.n)
      end,
    }, seen
  end

  -- The memory of the first of a group was taken for that of all.
  it("keeps items apart that handlers of a fan-out have accepted", function()
    items { "a", 1 }
    local h, seen = mail_and_sms()
    work(h, { limit = 1 })
    seen.is_down = false
    store:advance(10)
    for _, n in ipairs { 10, 20 } do q:push { k = "a", n = n } end
    assert.equal(3, work(h).done)
    assert.same({ { 1, 30 }, { 1, 30 } }, { seen.mail, seen.sms })
  end)

  it("folds items of which the same handlers have accepted", function()
    items({ "a", 1 }, { "a", 2 })
    local h, seen = mail_and_sms()
    work(h, { limit = 2 })
    seen.is_down = false
    store:advance(10)
    work(h)
    assert.same({ { 3 }, { 3 } }, { seen.mail, seen.sms })
  end)

  it("fails all of a group whose push is refused, and no others", function()
    items({ "a", 1 }, { "b", 2 }, { "a", 3 }, { "c", 4 })
    local sums = store:queue("all", { max_items = 2 })
    local seen = {}
    local counts = work(function(p, item)
      item:push(sums, p)
      if p.k == "b" then item:push(sums, p) end
      seen[#seen + 1] = p.k .. p.n
    end, { limit = 4 })
    assert.equal("a4 b2 c4", table.concat(seen, " "))
    assert.same({ 3, 1 }, { counts.done, counts.failed })
    assert.equal(2, sums:length().total)
    assert.equal("b", q:get(2).payload.k)
  end)

  it("makes dead letters of what it cannot decode", function()
    items { "a", 1 }
    helper.push_bytes(q, "\255")
    local counts = work(function() end)
    assert.equal(2, counts.items)
    assert.equal("undecodable", q.dead:oldest().reason)
  end)

  it("is not for an ordered queue", function()
    q = assert(store:queue("sums", { ordered = true }))
    assert.error_matches(function() work(print) end, "ordered queue")
  end)

  it("wants a queue that merges, or functions", function()
    q = assert(store:queue "sums")
    assert.error_matches(function() q:work(print, { merge = true }) end,
                         "the queue has none")
    assert.error_matches(function() q:work(print, { merge = 5 }) end,
                         "option 'merge' must be true or { key = function")
  end)

  it("folds batches too", function()
    items({ "a", 1 }, { "b", 2 }, { "a", 3 })
    local seen = {}
    local counts = q:work_batches(function(batch)
      for p, item in batch:each() do
        table.insert(seen, p.k .. p.n)
        if p.k == "a" then item:dead { error = "bad" } end
      end
    end, { stop_when_empty = true, merge = SUM })
    assert.same({ "a4", "b2" }, seen)
    assert.equal(2, counts.failed)
    assert.equal(1, counts.done)
    assert.equal(2, q.dead:count())
  end)

  it("settles a folded batch by the first items' marks", function()
    items({ "a", 1 }, { "b", 2 }, { "a", 3 })
    q:work_batches(function(batch)
      batch:item(1):release()
      assert(batch:settle())
      for _, item in batch:each() do assert.equal(2, item.id) end
    end, { merge = SUM, limit = 3 })
    assert.equal(2, q:length().ready)
  end)

  it("goes over many batches", function()
    items()
    for i = 1, 1000 do assert(q:push { k = "k" .. i % 7, n = 1 }) end
    local sum, calls = 0, 0
    work(function(p) sum, calls = sum + p.n, calls + 1 end, { batch = 100 })
    assert.equal(1000, sum)
    assert.equal(70, calls)
    assert.same({}, store:check())
    assert.same(0, q:work(print, empty).items)
  end)
end)
