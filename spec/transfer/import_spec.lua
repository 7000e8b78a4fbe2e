-- SPDX-License-Identifier: MIT
--
-- Imports: records out of an export, each pushed once.

local helper = require "spec.helper"
local respool = require "respool"
local transfer = require "spec.helper.transfer"
local range = helper.range

local null, array = respool.null, respool.array
local dead_letters, numbers = transfer.dead_letters, transfer.numbers
local reader, writer = transfer.reader, transfer.writer

describe("respool.import", function()
  it("pushes what was exported, with what belongs to it", function()
    local q, w = helper.store():queue "orders", writer()
    q:push({ n = 1 }, { headers = { a = 1 }, priority = 7, key = "k" })
    q:push({ n = 2 }, { delay = 60, ttl = 90 })
    local expires_at = q:get(2).expires_at
    respool.export { queue = q, writer = w }
    local to = helper.store():queue "in"
    local counts = assert(respool.import { to = to, reader = reader(w) })
    assert.same({ read = 2, pushed = 2, ignored = 0, known = 0, failed = 0,
                  errors = {} }, counts)
    local item = to:peek()[1]
    assert.same({ n = 1 }, item.payload)
    assert.same({ a = 1 }, item.headers)
    assert.equal(7, item.priority)
    assert.equal("k", item.key)
    assert.equal(1, to:length().scheduled)
    to.store:advance(61)
    local batch = to:take { limit = 2 }
    assert.equal(2, batch:item(2).payload.n)
    assert.near(expires_at, batch:item(2).expires_at, 0.001)
    batch:close()
  end)

  it("keeps payload versions, and refuses newer ones one by one", function()
    local store, w = helper.store(), writer()
    for v = 1, 3 do
      store:queue("orders", { version = v }):push { n = v }
    end
    respool.export { queue = store:queue "orders", writer = w }
    local to = store:queue("in", { version = 2, upgrade = function(payload)
      return payload
    end })
    local counts = assert(respool.import { to = to, reader = reader(w) })
    assert.equal(2, counts.pushed)
    assert.equal("item 3: its payload version 3 is newer than 2",
                 counts.errors[1])
    assert.equal(1, to:peek()[1].version)
    to = store:queue("in", { version = 3, upgrade = function(p) return p end })
    counts = assert(respool.import { to = to, reader = reader(w) })
    assert.equal(2, counts.known)
    assert.same({ 1, 2, 3 }, numbers(to))
  end)

  it("pushes each dead letter once, whatever is imported twice", function()
    local q, a, b = dead_letters(1500), writer(), writer()
    respool.export { dlq = q.dead, limit = 1000, writer = a }
    respool.export { dlq = q.dead, writer = b }
    local to = helper.store():queue "in"
    assert.equal(1000, respool.import { to = to, reader = reader(a) }
      .pushed)
    local counts = respool.import { to = to, reader = reader(b) }
    assert.equal(500, counts.pushed)
    assert.equal(1000, counts.known)
    assert.equal(0, respool.import { to = to, reader = reader(a) }.pushed)
    assert.same(range(1500), numbers(to))
  end)

  it("pushes again when told to, and to another queue", function()
    local q, w = dead_letters(2), writer()
    respool.export { dlq = q.dead, writer = w }
    local to = helper.store():queue "in"
    respool.import { to = to, reader = reader(w) }
    respool.import { to = to, reader = reader(w), again = true }
    assert.same({ 1, 1, 2, 2 }, numbers(to))
    respool.import { to = to.store:queue "x", reader = reader(w) }
    assert.equal(2, to.store:queue "x":length().total)
  end)

  it("does not take another dead letter of the same number for it", function()
    local store, w = helper.store(), writer()
    local q = dead_letters(1, store)
    respool.export { dlq = q.dead, writer = w }
    local to = helper.store():queue "in"
    respool.import { to = to, reader = reader(w) }
    w.batches[1][1].died_at = w.batches[1][1].died_at + 1
    assert.equal(1, respool.import { to = to, reader = reader(w) }.pushed)
  end)

  it("goes on behind what it cannot push, and later with that", function()
    local store, w = helper.store(), writer()
    local q = store:queue "orders"
    for i = 1, 9 do q:push({ n = i }, { key = "k" .. i }) end
    respool.export { queue = q, writer = w }
    local to = helper.store():queue "in"
    local held = to:push({ n = 0 }, { key = "k5" })
    local counts = assert(respool.import { to = to, reader = reader(w) })
    assert.equal(8, counts.pushed)
    assert.equal(1, counts.failed)
    assert.matches("^item 5: ", counts.errors[1])
    to:remove(held)
    counts = assert(respool.import { to = to, reader = reader(w) })
    assert.equal(1, counts.pushed)
    assert.same(range(9), numbers(to))
  end)

  it("does what it is told with keys that are held", function()
    local q, w = helper.store():queue "orders", writer()
    q:push({ n = 1 }, { key = "k" })
    respool.export { queue = q, writer = w }
    for conflict, left in pairs { ignore = 0, replace = 1 } do
      local to = helper.store():queue "in"
      to:push({ n = 0 }, { key = "k" })
      respool.import {
        to = to, reader = reader(w), on_conflict = conflict,
      }
      assert.same({ left }, numbers(to))
    end
  end)

  it("counts what it ignored as that, and forgets it", function()
    local q, w = helper.store():queue "orders", writer()
    for i = 1, 3 do q:push({ n = i }, { key = "k" .. i }) end
    respool.export { queue = q, writer = w }
    local to = helper.store():queue "in"
    to:push({ n = 0 }, { key = "k2" })
    local o = { to = to, on_conflict = "ignore" }
    o.reader = reader(w)
    local counts = assert(respool.import(o))
    assert.same({ 2, 1, 0 }, { counts.pushed, counts.ignored, counts.known })
    o.reader, o.on_conflict = reader(w), "replace"
    counts = assert(respool.import(o))
    assert.same({ 1, 0, 2 }, { counts.pushed, counts.ignored, counts.known })
    assert.same({ 1, 2, 3 }, numbers(to))
  end)

  it("remembers what it pushed before, when that is ignored again", function()
    local q, w = helper.store():queue "orders", writer()
    q:push({ n = 1 }, { key = "k" })
    respool.export { queue = q, writer = w }
    local to = helper.store():queue "in"
    respool.import { to = to, reader = reader(w) }
    assert.equal(1, respool.import {
      to = to, reader = reader(w), again = true, on_conflict = "ignore",
    }.ignored)
    assert.equal(1, respool.import { to = to, reader = reader(w) }.known)
  end)

  it("tells records that are none, and pushes those behind", function()
    local to, given = helper.store():queue "in", false
    local nan = 0 / 0
    local counts = assert(respool.import { to = to, reader = function()
      if given then return nil end
      given = true
      return {
        { payload = { n = 1 } }, { payload = { n = 2 }, priority = 999 },
        { id = 7, payload = { n = 2 }, key = ("k"):rep(300) },
        { number = 8, payload = { n = 2 }, expires_at = nan }, 5, "six", false,
        { bytes = 5 }, {}, { payload = { n = 2 }, version = "x" },
        { id = 1.5, payload = { n = 2 } }, { payload = { n = 2 }, items = "x" },
        { payload = print },
      }
    end })
    assert.same({ 13, 2, 11 }, { counts.read, counts.pushed, counts.failed })
    assert.equal("record 2: its 'priority' is not a whole number from 0 to 255",
                 counts.errors[1])
    assert.equal("item 7: its 'key' is not a string of 1 to 255 bytes",
                 counts.errors[2])
    assert.matches("^dead letter 8: its 'expires_at' is not a time in "
      .. "seconds", counts.errors[3])
    assert.equal("record 5: it is no record, but a number", counts.errors[4])
    assert.equal("record 9: it has no payload", counts.errors[8])
    assert.same({ 1, 2 }, numbers(to))
  end)

  it("raises what its reader does wrong", function()
    local to = helper.store():queue "in"
    for _, given in ipairs { "text", 5, true, false } do
      assert.error_matches(function()
        respool.import { to = to, reader = function() return given end }
      end, "the reader returned a " .. type(given) .. ", not a list of records")
    end
    assert.error_matches(function()
      respool.import { to = to, reader = function()
        return { { payload = 1 }, source = { store = 1 } }
      end }
    end, "'source' that the reader returned is none")
    assert.equal(0, respool.import {
      to = to, reader = function() end,
    }.read)
  end)

  it("takes a reader's word for what it accepted", function()
    local to, said = helper.store():queue "in", nil
    local from = { n = 0 }
    function from:read()
      self.n = self.n + 1
      return self.n < 3 and { { payload = { n = self.n } } } or nil
    end
    function from.accepted() said = true end
    assert.equal(2, respool.import { to = to, reader = from }.pushed)
    assert.is_true(said)
    function from.accepted() return nil, "the tape is torn", "NOSPACE" end
    from.n = 0
    local counts, message, code = respool.import { to = to, reader = from }
    assert.same({ nil, "the tape is torn", "NOSPACE" },
                { counts, message, code })
    function from.accepted() error("broken", 0) end
    from.n = 0
    assert.equal("broken",
                 select(2, respool.import { to = to, reader = from }))
  end)

  it("forgets what was imported when asked to", function()
    local q, w = dead_letters(2), writer()
    respool.export { dlq = q.dead, writer = w }
    local to = helper.store():queue "in"
    respool.import { to = to, reader = reader(w) }
    assert.is_true(to.store:forget_imports())
    assert.equal(2, respool.import { to = to, reader = reader(w) }.pushed)
  end)

  it("honours the queue's check", function()
    local q, w = dead_letters(3), writer()
    respool.export { dlq = q.dead, writer = w }
    local to = helper.store():queue("in", { validate = function(payload)
      if payload.n == 2 then error("not two", 0) end
    end })
    local counts = assert(respool.import { to = to, reader = reader(w) })
    assert.same({ "dead letter 2: not two" }, counts.errors)
    assert.same({ 1, 3 }, numbers(to))
  end)

  it("takes payloads that were never exported", function()
    local to, given = helper.store():queue "in", false
    local counts = assert(respool.import { to = to, reader = function()
      if given then return nil end
      given = true
      return { { payload = { n = 1 } }, { payload = { n = 2 }, key = "k",
                                          headers = { a = 1 } } }
    end })
    assert.equal(2, counts.pushed)
    assert.same({ 1, 2 }, numbers(to))
  end)

  it("tells what the reader says, with what came before", function()
    local to, n = helper.store():queue "in", 0
    local counts, message, code, so_far = respool.import {
      to = to, reader = function()
        n = n + 1
        if n == 2 then return nil, "the tape is torn", "CORRUPT" end
        return { { payload = { n = 1 } } }
      end,
    }
    assert.is_nil(counts)
    assert.equal("the tape is torn", message)
    assert.equal("CORRUPT", code)
    assert.equal(1, so_far.pushed)
  end)

  it("stops when the queue is full, and goes on from there", function()
    local q, w = dead_letters(30), writer()
    respool.export { dlq = q.dead, batch = 10, writer = w }
    local to = helper.store():queue("in", { max_items = 25 })
    local counts, _, code, so_far = respool.import {
      to = to, reader = reader(w),
    }
    assert.is_nil(counts)
    assert.equal("FULL", code)
    assert.equal(20, so_far.pushed)
    to = to.store:queue("in", { max_items = math.huge })
    assert.equal(10, respool.import { to = to, reader = reader(w) }.pushed)
    assert.same(range(30), numbers(to))
  end)

  it("is done by one at a time in a store", function()
    local q, w = dead_letters(1), writer()
    respool.export { dlq = q.dead, writer = w }
    local to = helper.store():queue "in"
    local message, code, _
    respool.import { to = to, reader = function()
      _, message, code = respool.import { to = to, reader = reader(w) }
    end }
    assert.matches("another process imports into store", message)
    assert.equal("LOCKED", code)
    assert.equal(1, respool.import { to = to, reader = reader(w) }.pushed)
  end)

  it("refuses payloads of another codec unless told otherwise", function()
    local q, w = dead_letters(1), writer()
    respool.export { dlq = q.dead, writer = w }
    local to = helper.store():queue("in", { codec = "raw" })
    local _, message, code = respool.import { to = to, reader = reader(w) }
    assert.matches("codec 'cbor'", message)
    assert.equal("VERSION", code)
    assert.equal(1, respool.import {
      to = to, reader = reader(w), as_stored = true,
    }.pushed)
    assert.equal(respool.cbor.encode { n = 1 }, to:peek()[1].payload)
  end)

  it("refuses options that are none", function()
    local to = helper.store():queue "in"
    assert.error_matches(function() respool.import { to = to } end,
                         "option 'reader' is missing")
    assert.error_matches(function()
      respool.import { to = to, reader = 1 }
    end, "'reader' must be")
    assert.error_matches(function()
      respool.import { to = to, reader = print, fast = 1 }
    end, "unknown option 'fast'")
  end)
end)

describe("an empty array and null", function()
  it("survive an export that keeps bytes", function()
    local q, w = helper.store():queue "orders", writer()
    q:push { a = array {}, b = null }
    respool.export { queue = q, writer = w }
    local to = helper.store():queue "in"
    respool.import { to = to, reader = reader(w) }
    local payload = to:peek()[1].payload
    assert.equal(respool.array_mt, getmetatable(payload.a))
    assert.equal(null, payload.b)
  end)
end)
