-- SPDX-License-Identifier: MIT
--
-- Damaged bytes are set aside, counted and named; they stop nothing
-- and never crash the program.

local helper = require("spec.helper").without_journal()
local respool = require "respool"
local stored = require "spec.helper.stored"

local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue("orders", {
    codec = "raw", retry = respool.backoff.constant { delay = 5 },
  }))
end)

-- Inverts a byte, the last if not told which, of the n-th value.
local function flip(database, n, offset)
  stored.damage(store.path, "flip", database, n, offset or -1)
end

-- Pushes lists of items, a segment each.
local function push_segments(...)
  for _, list in ipairs { ... } do assert(q:push_many(list)) end
end

-- Takes until there is nothing, and settles it all as done.
local function drain()
  local seen = {}
  for batch in function()
    local batch = assert(q:take { limit = 100 })
    return #batch > 0 and batch or nil
  end do
    for i = 1, #batch do table.insert(seen, batch:item(i).payload) end
    batch:done()
    assert(batch:settle())
  end
  return seen
end

local function die(...)
  push_segments { ... }
  local batch = assert(q:take { limit = 100 })
  batch:dead { error = "bad", group = "g" }
  assert(batch:settle())
end

local function assert_found(pattern)
  local findings = assert(store:check())
  assert.is_true(#findings > 0)
  for _, finding in ipairs(findings) do assert.matches(pattern, finding) end
end

local function assert_clean()
  assert.same({}, store:check())
end

-- The number of items stands in the key: one too large was believed.
describe("a segment whose key is damaged", function()
  for offset = -2, -1 do
    it("is told, and harms nobody: byte " .. offset, function()
      push_segments({ "a", "b", "c" }, { "d", "e" }, { "f" })
      stored.damage(store.path, "rekey", "segments", 1, offset)
      for _, call in ipairs {
        function() return q:take { limit = 100 } end,
        function() return q:peek(100) end,
        function() return q:get(4) end,
      } do
        local found, _, code = call()
        if not found then
          assert.is_true(code == "CORRUPT" or code == "NOT_FOUND", code)
        end
      end
      pcall(function() for _ in q:each() do end end) -- raises what it meets
      local findings, _, code = store:check()
      assert.is_true(code == "CORRUPT" or #findings > 0)
    end)
  end
end)

describe("a damaged segment", function()
  it("is set aside as a dead letter, and the queue goes on", function()
    push_segments({ "a", "b" }, { "c", "d", "e" }, { "f" })
    flip("segments", 1)
    assert.same({ "a", "b", "f" }, drain())
    assert.equal(1, q.dead:count())
    local dead_letter = q.dead:get(1)
    assert.same({ "undecodable", 3, 3, "orders" },
                { dead_letter.reason, dead_letter.items, dead_letter.id,
                  dead_letter.queue })
    assert_clean()
  end)

  it("keeps its bytes in the dead letter", function()
    push_segments { "first", "second" }
    flip("segments", 0)
    drain()
    assert.matches("first.*secon", q.dead:get(1).bytes)
  end)

  it("is counted", function()
    push_segments({ "a", "b" }, { "c" })
    flip("segments", 0)
    drain()
    local s = q:stats()
    assert.same({ 1, 2, 1, 0 }, { s.damaged, s.died, s.done, s.ready })
  end)

  it("is named by check, before anybody takes it", function()
    push_segments({ "a" }, { "b" })
    flip("segments", 1)
    assert_found "queue 'orders'.*id 2 is damaged"
  end)

  it("is passed over by peek and each, which change nothing", function()
    push_segments({ "a" }, { "b" }, { "c" })
    flip("segments", 1)
    local peeked, walked = {}, {}
    for i, item in ipairs(q:peek(10)) do peeked[i] = item.payload end
    for item in q:each() do table.insert(walked, item.payload) end
    assert.same({ "a", "c" }, peeked)
    assert.same({ "a", "c" }, walked)
    assert.equal(3, q:length().total)
  end)

  it("is told by peek and each, item by item", function()
    push_segments({ "a" }, { "b", "c" }, { "d" })
    flip("segments", 1)
    local told = {}
    for _ in q:each { on_damaged = function(ids)
      for _, id in ipairs(ids) do table.insert(told, id) end
    end } do end
    assert.same({ 2, 3 }, told)
    assert.same({ 2, 3 }, q:peek(10).damaged)
    assert.is_nil(q:peek(1).damaged)
  end)

  it("is told where it is leased, and where it is all there is", function()
    push_segments { "a", "b" }
    local batch = q:take { limit = 2 }
    flip("segments", 0)
    local told
    for _ in q:each { on_damaged = function(ids) told = ids end } do end
    assert.same({ 1, 2 }, told)
    batch:close()
  end)

  it("is not taken for an item that is gone", function()
    push_segments { "a" }
    flip("segments", 0)
    local item, _, code = q:get(1)
    assert.is_nil(item)
    assert.equal("CORRUPT", code)
  end)

  it("is set aside when it was delayed", function()
    q:push("a", { delay = 60 })
    q:push "b"
    flip("segments", 1)
    assert.same({ "b" }, drain())
    store:advance(61)
    assert.same({}, drain())
    assert.same({ 1, 0 }, { q.dead:count(), q:length().total })
    assert_clean()
  end)

  it("is set aside when it waits for a retry, with its history", function()
    push_segments { "a", "b" }
    local batch = q:take { limit = 2 }
    batch:retry { error = "busy" }
    batch:settle()
    flip("segments", 0)
    store:advance(6)
    assert.same({}, drain())
    local dead_letter = q.dead:get(1)
    assert.same({ "undecodable", 2, 1 },
                { dead_letter.reason, dead_letter.items, dead_letter.attempts })
    assert_clean()
  end)

  it("is set aside when its items expire", function()
    q:push("a", { ttl = 60 })
    q:push "b"
    flip("segments", 0)
    store:advance(61)
    assert.same({ "b" }, drain())
    assert.equal("undecodable", q.dead:get(1).reason)
    assert_clean()
  end)

  it("is set aside when its lease runs out", function()
    push_segments { "a", "b", "c" }
    q:take { limit = 3 }
    flip("segments", 0)
    store:advance(31)
    assert.same({}, drain())
    assert.same({ 0, 3 }, { q:length().total, q:stats().died })
    assert_clean()
  end)

  it("does not hold up an ordered queue", function()
    assert(store:queue("orders", { ordered = true }))
    push_segments({ "a" }, { "b" }, { "c" })
    flip("segments", 1)
    assert.same({ "a", "c" }, drain())
    assert_clean()
  end)

  it("may still be settled by who has taken it", function()
    push_segments { "a", "b", "c" }
    local batch = q:take { limit = 3 }
    flip("segments", 0)
    batch:item(1):done()
    batch:item(2):retry { error = "busy" }
    batch:item(3):dead()
    assert.is_true(batch:settle())
    assert.same({ 1, 1, 1 },
                { q:stats().done, q:length().retrying, q.dead:count() })
    store:advance(6)
    assert.same({}, drain())
    assert.equal("undecodable", q.dead:get(2).reason)
    assert_clean()
  end)

  it("may be purged", function()
    push_segments({ "a" }, { "b" })
    flip("segments", 0)
    assert.equal(1, q:purge())
    assert.same({ 1, 0 }, { q.dead:count(), q:length().total })
    assert_clean()
  end)

  it("is no item that a replay could move", function()
    push_segments({ "a", "b" }, { "c" })
    flip("segments", 0)
    flip("segments", 1)
    drain()
    assert.equal(2, q.dead:replay().failed)
    assert.equal(2, q.dead:count())
    assert.is_true(q.dead:remove(1))
  end)

  it("is found out whichever byte it is", function()
    push_segments { "ab", "c" }
    local size = q:stats().bytes
    for at = 0, size - 1 do
      q = assert(store:queue("q" .. at, {
        dead_letter = "orders", codec = "raw",
      }))
      push_segments { "ab", "c" }
    end
    for at = 0, size - 1 do flip("segments", at + 1, at) end
    for at = 0, size - 1 do
      q = assert(store:queue("q" .. at))
      assert.same({}, drain())
      assert.equal(2, q:stats().died)
    end
    assert.equal(size, store:dead "orders":count())
    assert_clean()
  end)
end)

describe("a damaged part of a large item", function()
  local LARGE = ("x"):rep(40000)

  it("makes a dead letter of the item alone", function()
    push_segments { "a", LARGE, "c" }
    flip("blobs", 1)
    assert.same({ "a", "c" }, drain())
    local dead_letter = q.dead:get(1)
    assert.same({ "undecodable", 1, 2 },
                { dead_letter.reason, dead_letter.items, dead_letter.id })
    assert.same({ 1, 1 }, { q:stats().damaged, q:stats().died })
  end)

  -- The dead letter used to show the reference to the parts, 19 bytes.
  it("leaves its bytes in the dead letter, all but the damaged", function()
    push_segments { LARGE }
    flip("blobs", 1)
    assert.same({}, drain())
    local dead_letter = q.dead:get(1)
    assert.is_true(dead_letter.damaged)
    local xs = select(2, dead_letter.bytes:gsub("x", ""))
    assert.is_true(xs >= 40000 - 16 and xs < #dead_letter.bytes)
    assert.is_true(#dead_letter.bytes < 40100)
  end)

  it("does so when it is missing", function()
    push_segments { "a", LARGE, "c" }
    stored.damage(store.path, "del", "blobs", 1)
    assert.same({ "a", "c" }, drain())
    assert.equal(1, q.dead:count())
  end)

  it("is named by check", function()
    push_segments { LARGE }
    flip("blobs", 2)
    assert_found "blob 1 of queue 'orders'.* is damaged"
  end)

  it("is named by check when the item is dead", function()
    die(LARGE)
    flip("blobs", 0)
    assert_found 'blob 1 .*is damaged'
  end)

  it("leaves the dead letter to be read, and a replay to fail", function()
    die("a", LARGE)
    flip("blobs", 0)
    assert.same({ "rejected", "bad" },
                { q.dead:get(2).reason, q.dead:get(2).error })
    local counts = q.dead:replay()
    assert.same({ 1, 1, 1 }, { counts.moved, counts.failed, q.dead:count() })
  end)
end)

describe("a damaged dead letter", function()
  before_each(function()
    for _, payload in ipairs { "a", "b", "c" } do die(payload) end
    flip("dead_letters", 1)
  end)

  it("is listed as damaged, with its bytes, the others as they are",
     function()
    local list = q.dead:list()
    assert.same({ "a", "c" }, { list[1].payload, list[3].payload })
    assert.same({ 2, "damaged" }, { list[2].number, list[2].reason })
    assert.matches("rejected.*orders", list[2].bytes)
  end)

  it("says so, and has no payload", function()
    local list = q.dead:list()
    assert.same({ false, true, false },
                { list[1].damaged, list[2].damaged, list[3].damaged })
    assert.is_nil(list[2].payload)
  end)

  it("is named by check", function()
    assert_found "dead letter 2 of DLQ 'orders' is damaged"
  end)

  it("counts, in a group of its own", function()
    assert.equal(3, q.dead:count())
    assert.same({ { group = "g", reason = "rejected", count = 2 },
                  { group = "", reason = "damaged", count = 1 } },
                helper.groups(q.dead))
  end)

  it("does not hold up a replay", function()
    local counts = q.dead:replay()
    assert.same({ 2, 1, 1 }, { counts.moved, counts.failed, q.dead:count() })
    assert.same({ "a", "c" }, drain())
  end)

  it("leaves no count of a replay out, from the first page on", function()
    local first
    q.dead:replay { on_progress = function(counts)
      first = first or { counts.seen, counts.moved, counts.skipped,
                         counts.failed, counts.gone }
    end }
    assert.equal(5, #first)
  end)

  it("would not be moved, says a dry run", function()
    local counts = q.dead:replay { dry_run = true }
    assert.same({ 2, 1 }, { counts.moved, counts.failed })
    assert.same({ "dead letter 2: it is damaged" }, counts.errors)
  end)

  it("is not handed to a transform, nor kept back by a where", function()
    local seen = {}
    local counts = q.dead:replay {
      where = function(dead_letter) return #dead_letter.payload == 1 end,
      transform = function(payload)
        table.insert(seen, payload)
        return payload
      end,
    }
    assert.same({ "a", "c" }, seen)
    assert.same({ "dead letter 2: it is damaged" }, counts.errors)
  end)

  it("is of no age to a purge with a predicate", function()
    store:advance(60)
    assert.equal(2, q.dead:purge {
      older_than = 1, where = function() return true end,
    })
    assert.is_true(q.dead:oldest().damaged)
  end)

  it("is removed by hand", function()
    assert.is_true(q.dead:remove(2))
    assert.equal(2, q.dead:count())
    assert_clean()
  end)

  it("stays where dead letters are purged by age or group", function()
    store:advance(60)
    assert.equal(2, q.dead:purge { older_than = 1, group = "g" })
    assert.equal("damaged", q.dead:oldest().reason)
  end)

  it("is found out whichever byte it is", function()
    for at = 0, #q.dead:get(2).bytes - 2 do
      flip("dead_letters", 1, at)
      flip("dead_letters", 1) -- as it was
      assert.equal("damaged", q.dead:get(2).reason)
      flip("dead_letters", 1, at)
      assert.equal("b", q.dead:get(2).payload)
      flip("dead_letters", 1)
    end
  end)
end)

describe("a damaged run of dead letters", function()
  before_each(function()
    die("a", "b", "c")
    die "d"
    flip("dead_letters", 0)
  end)

  it("is listed as one that stands for all of it, under its last number",
     function()
    for _, order in ipairs { "oldest", "newest" } do
      local list = q.dead:list { order = order }
      local one = list[order == "oldest" and 1 or 2]
      assert.same({ 2, 3, 3, true },
                  { #list, one.number, one.items, one.damaged })
    end
    assert.equal("d", q.dead:get(4).payload)
  end)

  it("is what each of its dead letters is now", function()
    for number = 1, 3 do
      assert.equal("damaged", q.dead:get(number).reason)
      local moved, _, code = q.dead:retry(number)
      assert.same({ nil, "CORRUPT" }, { moved, code })
    end
  end)

  it("is named by check", function()
    assert_found "^dead letters 1 to 3 of DLQ 'orders' are damaged: their"
  end)

  it("counts all of them", function()
    assert.equal(4, q.dead:count())
    assert.same({ { group = "", reason = "damaged", count = 3 },
                  { group = "g", reason = "rejected", count = 1 } },
                helper.groups(q.dead))
  end)

  it("does not hold up a replay", function()
    local counts = q.dead:replay()
    assert.same({ 1, 1, 3 }, { counts.moved, counts.failed, q.dead:count() })
    assert.same({ "d" }, drain())
  end)

  it("is removed as a whole, by its last number alone", function()
    assert.is_nil(q.dead:remove(2))
    assert.is_true(q.dead:remove(3))
    assert.equal(1, q.dead:count())
    assert_clean()
  end)

  it("goes as the oldest where there are too many", function()
    q = assert(store:queue("orders", {
      codec = "raw", keep_dead = { items = 2 },
    }))
    die "e"
    assert.same({ "d", "e" }, helper.payloads(q.dead:list()))
    assert.equal(3, q:stats().dead_dropped)
    assert_clean()
  end)
end)

describe("check", function()
  it("finds a wrong byte in every record that has a checksum", function()
    assert(q:push("a", { key = "k", dedup = 60 }))
    push_segments { "b", "c" }
    local batch = q:take { limit = 2 }
    batch:item(1):dead()
    batch:item(2):done()
    assert(batch:settle())
    assert(q.dead:replay { name = "again" })
    assert(store:transaction(function(tx) tx:note("note", "x") end))
    for name, entries in pairs(stored.raw(store.path)) do
      for n, entry in ipairs(entries) do
        if #entry.value > 10 and entry.key ~= "store" then
          local offset = 1 + n % (#entry.value - 1)
          flip(name, n - 1, offset)
          local found, _, code = store:check()
          assert.is_true(found and #found > 0
            or name == "queues" and code == "CORRUPT", name)
          flip(name, n - 1, offset)
        end
      end
    end
    assert.same({}, store:check())
  end)
end)

describe("a damaged record of a queue", function()
  it("is damaged each time, also where it is read to be written", function()
    push_segments { "a" }
    flip("queues", 0, -3)
    for _ = 1, 3 do
      for _, call in ipairs {
        function() return q:push("b", { delay = 1 }) end,
        function() return q:pause() end,
        function() return q:take() end,
      } do
        local none, _, code = call()
        assert.same({ nil, "CORRUPT" }, { none, code })
      end
    end
  end)
end)

describe("a damaged claim", function()
  local function lease_two()
    push_segments({ "a", "b", "c" }, { "d" })
    assert(q:take { limit = 2 })
    store:advance(31)
  end

  for offset = 0, 20, 5 do
    it("loses what it knows, and no item: byte " .. offset, function()
      lease_two()
      flip("claims", 0, offset)
      assert.equal(1, #store:check() > 0 and 1 or 0)
      assert.is_number(q:stats().ready)
      local seen = drain()
      table.sort(seen)
      assert.same({ "a", "b", "c", "d" }, seen)
      assert.equal(2, q:stats().damaged)
      assert.same({}, store:check())
    end)
  end

  it("under another key is one, too", function()
    lease_two()
    stored.damage(store.path, "rekey", "claims", 0, 13)
    assert.is_true(#store:check() > 0)
    local seen = drain()
    assert.is_true(#seen >= 2)
  end)
end)

describe("a damaged bitmap", function()
  it("has settled items come again rather than lose one", function()
    push_segments { "a", "b", "c" }
    local batch = q:take { limit = 1 }
    batch:done()
    assert(batch:settle())
    flip("remaining", 0, 11)
    assert.is_true(#store:check() > 0)
    local seen = drain()
    table.sort(seen)
    assert.equal("c", seen[#seen])
    assert.equal("b", seen[#seen - 1])
  end)
end)
