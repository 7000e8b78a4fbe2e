-- SPDX-License-Identifier: MIT
--
-- doc/format.md against a store: what lies there is read with LMDB and a
-- CBOR reader alone (spec/helper/stored.lua), by the names that the page draws.

local helper = require("spec.helper").without_journal()
local respool = require "respool"
local stored = require "spec.helper.stored"

local NULL, bytes, page = stored.NULL, stored.bytes, stored.page
local store, q
local unpack = table.unpack or unpack -- luacheck: ignore

before_each(function()
  store, q = stored.orders()
end)

local function look()
  return stored.read(store.path)
end

local function only(database)
  return stored.only(store.path, database)
end

local function ms(seconds)
  return math.floor((store:now() + (seconds or 0)) * 1000 + 0.5)
end

local function settle(...)
  stored.settle(q, ...)
end

local function push_large(size)
  return assert(q:push(("x"):rep(size)))
end

describe("the page", function()
  it("names every table there is, and no other", function()
    local named, there, n = {}, {}, 0
    for name in pairs(page.tables) do named[name], n = true, n + 1 end
    for name in pairs(look()) do there[name] = true end
    assert.same(named, there)
    assert.equal(21, n)
    assert.matches("twenty%-one tables", page.text)
  end)

  it("tells what a schedule's entry holds", function()
    local s = assert(store:schedule("nightly", {
      cron = "0 3 * * *", timezone = "Europe/Berlin", queue = q,
      payload = "go", missed = "none", priority = 2,
    }))
    local entry = only "entries"
    assert.equal("\1nightly", entry.key)
    assert.equal(1, entry.value.revision)
    local fields = stored.record("schedule",
                                 stored.decode(entry.value.bytes.bytes))
    assert.same({ "0 3 * * *", "Europe/Berlin", "orders", 2, 2, false,
                  s.next_at * 1000, 0, ms() }, {
      fields.cron, fields.timezone, fields.queue, fields.priority,
      fields.missed, fields.paused, fields.next_at, fields.fired,
      fields.made_at,
    })
  end)

  it("tells the format version of a new store", function()
    local meta = {}
    for _, entry in ipairs(look().meta) do meta[entry.key] = entry.value end
    assert.equal(tonumber(page.text:match "Format version: (%d+)"),
                 meta.format)
    assert.equal(16, #meta.store.bytes)
  end)

  it("has two stores differ by their id", function()
    local function id(of)
      for _, entry in ipairs(stored.read(of.path).meta) do
        if entry.key == "store" then return entry.value.bytes end
      end
    end
    assert.not_equal(id(store), id(helper.store()))
  end)
end)

describe("the record of a queue", function()
  local function record(entry)
    local r = entry.value
    r.policy = stored.record("policy", r.policy)
    r.counters = stored.record("counters", r.counters)
    for i, priority in ipairs(r["priority list"]) do
      r["priority list"][i] = stored.record("priority", priority)
    end
    return r
  end

  it("lies under its name and has a number of its own", function()
    assert(store:queue "another")
    local queues = look().queues
    assert.equal("another", queues[1].key)
    assert.equal("orders", queues[2].key)
    assert.not_equal(queues[1].value.number, queues[2].value.number)
  end)

  it("holds the policy, with 2^63 - 1 for no limit", function()
    assert(store:queue("orders", {
      ttl = 90, max_items = 7, on_exhausted = { cooldown = 60 },
      on_expire = "drop", ordered = true, max_crashes = math.huge,
      dead_letter = "morgue",
    }))
    local p = record(only "queues").policy
    assert.same({ 30000, 3600000, 6, 2^63, 90000, 60000, 2, 1, 1, 7, 2^63 },
      { p.lease, p.max_lease, p.max_attempts, p.max_crashes, p.ttl,
        p.cooldown, p.on_exhausted, p.on_expire, p.ordered, p.max_items,
        p.max_queue_bytes })
    assert.equal("morgue", p.dlq)
  end)

  it("holds the backoff", function()
    assert(store:queue("orders", {
      retry = respool.backoff.list { 5, 30, 300, jitter = 0.25 },
    }))
    local p = record(only "queues").policy
    local b = stored.record("backoff", p.backoff)
    assert.same({ 5, 3, 0.25, { 5000, 30000, 300000 } },
                { b.kind, b.jitter, b.ratio, b["delay list"] })
  end)

  it("counts what the queue's figures tell", function()
    q:push_many { "a", "b", "c", "d", "e" }
    settle("done")
    settle("dead")
    settle("snooze", 9)
    settle("release")
    settle("drop")
    local stats, counters = q:stats(), record(only "queues").counters
    assert.equal(1, counters.snoozed)
    for name, n in pairs(counters) do
      if type(n) == "number" then assert.equal(stats[name], n, name) end
    end
  end)

  it("knows the next id and the next token", function()
    q:push_many { "a", "b", "c" }
    assert(q:take())
    local r = record(only "queues")
    assert.equal(4, r["next id"])
    local number = math.floor(only "claims".value.token / 2^20)
    assert.is_true(r["next token"] > number)
  end)

  it("is paused, or not", function()
    assert.is_false(only "queues".value.paused)
    q:pause()
    assert.is_true(only "queues".value.paused)
  end)

  it("lists the priorities that hold items, highest first", function()
    q:push_many({ "a", "b", "c" }, { priority = 2 })
    q:push("d", { priority = 9 })
    q:push("e", { priority = 2, delay = 60 })
    assert(q:take { limit = 2 })
    assert.same({
      { priority = 9, head = 5, ready = 0, leased = 1, scheduled = 0,
        credit = 0, retrying = 0, listed = 0 },
      { priority = 2, head = 2, ready = 2, leased = 1, scheduled = 1,
        credit = 0, retrying = 0, listed = 0 },
    }, record(only "queues")["priority list"])
  end)

  it("keeps its time when the wall clock steps back", function()
    q:push "a"
    local before = ms()
    store:advance(-60)
    q:push "b"
    local r = record(only "queues")
    assert.same({ before, 60000, 1 },
                { r.clock_last, r.clock_offset, r.counters.clock_steps })
  end)

  it("counts the bytes of its unsettled items", function()
    q:push "a"
    local segment = only "segments"
    assert.equal(#segment.bytes, only "queues".value.bytes)
    settle("done")
    assert.equal(0, only "queues".value.bytes)
  end)
end)

describe("a segment", function()
  it("holds the items of consecutive ids", function()
    q:push_many { "a", "b", "c" }
    local s = only "segments"
    assert.same({ queue = 1, space = 0, priority = 0, ["first id"] = 1,
                  count = 3 }, s.key)
    assert.same({ stored.item "a", stored.item "b", stored.item "c" },
                s.value["item list"])
  end)

  it("tells when it was pushed and when it expires", function()
    q:push("a", { ttl = 90 })
    local s = only "segments"
    assert.equal(ms(), s.value.pushed_at)
    assert.equal(ms(90), s.value.expires_at)
    assert.same({ 2, 0 }, { s.value["2"], s.value["payload version"] })
    assert.equal(s.key_bytes, s.value["own key"].bytes)
  end)

  it("is summed, with its fixed fields where they are drawn", function()
    q:push_many { "a", "b" }
    local s = only "segments"
    assert.is_true(stored.is_summed(s))
    assert.equal("\135\27", s.bytes:sub(1, 2))
    assert.equal("\2\80", s.bytes:sub(11, 12))
    assert.equal("\27", s.bytes:sub(29, 29))
    assert.equal("\27", s.bytes:sub(38, 38))
    assert.equal("\0\153\0\2", s.bytes:sub(47, 50))
  end)

  it("holds headers, replays and the original of an item", function()
    q:push("a", { headers = { 1 } })
    settle("dead")
    assert(q.dead:replay { transform = function() return "b" end })
    local item = only "segments".value["item list"][1]
    assert.same({ bytes "b", bytes "\129\1", 1, bytes "a", NULL },
                { unpack(item, 1, 5) })
  end)

  it("has null for headers and original that there are not", function()
    q:push "a"
    settle("dead")
    assert(q.dead:replay())
    local item = only "segments".value["item list"][1]
    assert.same({ bytes "a", NULL, 1, NULL, NULL }, { unpack(item, 1, 5) })
  end)

  it("holds the codec's name and the origin of an item", function()
    local pushed_at = ms()
    q:push "a"
    store:advance(5)
    settle("dead")
    assert(q.dead:replay())
    local item = only "segments".value["item list"][1]
    assert.same({ bytes "raw", { bytes "orders", 1, pushed_at } },
                { item[6], item[7] })
  end)

  it("holds a body alone where nothing else is known", function()
    assert(store:queue("orders", { codec = "cbor" }):push "a")
    assert.same({ bytes "\97a" }, only "segments".value["item list"])
  end)

  it("lies in the priority of its priority", function()
    q:push("a", { priority = 255 })
    assert.equal(255, only "segments".key.priority)
  end)

  it("lies in space 1 when it is delayed", function()
    q:push("a", { delay = 60 })
    assert.equal(1, only "segments".key.space)
  end)

  it("lies in space 2 when it was parted from its batch", function()
    q:push_many { "a", "b", "c" }
    local batch = q:take { limit = 3 }
    batch:item(2):snooze(60)
    batch:settle()
    local parted = look().segments[2]
    assert.same({ queue = 1, space = 2, priority = 0, ["first id"] = 2,
                  count = 1 }, parted.key)
    assert.same({ stored.item "b" }, parted.value["item list"])
    assert.is_true(stored.is_summed(parted))
  end)

  it("is no larger than it may be", function()
    local small, large = {}, {}
    q = assert(store:queue("orders", { codec = "cbor" }))
    for i = 1, 9000 do small[i] = "x" end
    for i = 1, 300 do large[i] = ("x"):rep(200) end
    q:push_many(small)
    q:push_many(large)
    local count, size = 0, 0
    for _, s in ipairs(look().segments) do
      assert.equal(s.key.count, #s.value["item list"])
      count, size = math.max(count, s.key.count), math.max(size, #s.bytes)
    end
    assert.equal(4096, count)
    assert.is_true(size > 16000 and size <= 16368)
  end)
end)

describe("the bitmap of a segment", function()
  it("is there once some of its items are settled, but not all", function()
    q:push_many { "a", "b", "c", "d", "e", "f", "g", "h", "i", "j" }
    assert.same({}, look().remaining)
    local batch = q:take { limit = 9 }
    batch:item(1):done()
    batch:item(3):done()
    batch:settle()
    local r = only "remaining"
    assert.equal(look().segments[1].key_bytes, r.key_bytes)
    assert.same(bytes "\250\3", r.value.bits)
  end)

  it("goes with it", function()
    q:push_many { "a", "b" }
    settle("done")
    settle("done")
    local found = look()
    assert.same({ {}, {} }, { found.remaining, found.segments })
  end)
end)

describe("an entry in expiries", function()
  it("is there for a segment that expires, until it has", function()
    q:push("a", { ttl = 90, priority = 3 })
    q:push "b"
    assert.same({ queue = 1, expires_at = ms(90), space = 0, priority = 3,
                  ["first id"] = 1, count = 1 }, only "expiries".key)
    store:advance(91)
    q:take()
    assert.same({}, look().expiries)
  end)
end)

describe("a blob", function()
  it("holds an item too large for a segment, in summed parts", function()
    push_large(40000)
    local found, whole = look(), ""
    for part, entry in ipairs(found.blobs) do
      assert.same({ blob = 1, part = part - 1 }, entry.key)
      assert.is_true(#entry.value.bytes.bytes <= 16300)
      assert.is_true(stored.is_summed(entry))
      whole = whole .. entry.value.bytes.bytes
    end
    assert.same({ { 1, #whole } }, found.segments[1].value["item list"])
    assert.same(stored.item(("x"):rep(40000)), stored.decode(whole))
  end)

  it("stays where it is when its item dies, and goes when that does",
     function()
    push_large(20000)
    local before = look()
    settle("dead")
    local after = look()
    assert.same(before.blobs, after.blobs)
    assert.same(before.segments[1].value["item list"][1],
                after.dead_letters[1].value["letter list"][1][4])
    q.dead:remove(1)
    assert.same({}, look().blobs)
  end)

  it("is referred to in fixed form", function()
    push_large(20000)
    local s = only "segments"
    assert.equal("\130\27", s.bytes:sub(51, 52))
    assert.equal(50 + 1 + 9 + 9, #s.bytes)
  end)
end)
