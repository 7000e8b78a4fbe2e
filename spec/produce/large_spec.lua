-- SPDX-License-Identifier: MIT
--
-- Payloads of every size: what does not fit a segment is stored apart, and
-- nobody should notice but by the bytes in use.

local helper = require "spec.helper"
local code = helper.code

local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue("files", { codec = "raw" }))
end)

-- Whatever a spec did, the store finds nothing wrong with itself.
local it = helper.checked(it)

local KIB, MIB = 1024, 1024 * 1024

-- A payload of n bytes of which no two parts are alike; its number and size
-- are in it.
local function payload(n, number)
  local blocks = {}
  for i = 1, math.ceil(n / 16) do
    blocks[i] = ("%02d %12d\n"):format(number or 0, i)
  end
  return table.concat(blocks):sub(1, n)
end

-- Without showing megabytes when it fails.
local function assert_same_bytes(expected, got)
  assert.equal(#expected, got and #got)
  assert.is_true(expected == got, "other bytes")
end

local function take(n)
  return assert(q:take { limit = n or 1 })
end

local function settle(verb, argument)
  local batch = take(9)
  assert.is_true(#batch > 0)
  batch[verb](batch, argument)
  assert.is_true(batch:settle())
end

local SIZES = {
  0, 1, 23, 24, 255, 256, 4000, 8 * KIB, 16000, 16200, 16300, 16301, 16 * KIB,
  2 * 16300 - 1, 2 * 16300, 2 * 16300 + 1, 64 * KIB, 65537, 300000, MIB,
}

describe("a payload", function()
  for _, size in ipairs(SIZES) do
    it(("of %d bytes comes back as it was"):format(size), function()
      local before, after = payload(9, 8), payload(10, 9)
      q:push_many { before, payload(size), after }
      local batch = take(3)
      assert_same_bytes(before, batch:item(1).payload)
      assert_same_bytes(payload(size), batch:item(2).payload)
      assert_same_bytes(after, batch:item(3).payload)
      batch:done()
      batch:settle()
      assert.equal(0, q:stats().bytes)
    end)
  end

  it("of any size has its place in the order", function()
    local list = {}
    for i, size in ipairs(SIZES) do list[i] = payload(size, i) end
    q:push_many(list)
    for i = 1, #list do
      assert_same_bytes(list[i], q:get(i).payload)
      assert_same_bytes(list[i], take():item(1).payload)
    end
  end)

  it("is a value of any size, too", function()
    q = store:queue "values"
    local rows = {}
    for i = 1, 20000 do rows[i] = { id = i, name = "row " .. i } end
    q:push({ rows = rows, text = payload(100000) })
    local value = take():item(1).payload
    assert.same(rows[20000], value.rows[20000])
    assert_same_bytes(payload(100000), value.text)
  end)

  it("of up to 64 MiB is taken, where nothing else is said", function()
    local largest = ("0123456789abcdef"):rep(4 * MIB)
    assert(q:push(largest))
    assert_same_bytes(largest, take():item(1).payload)
    assert.equal("TOO_LARGE", code(q:push(largest .. "x")))
    assert.equal(1, q:length().total)
  end)
end)

describe("max_item_bytes", function()
  before_each(function()
    store = helper.store { max_item_bytes = "100KiB" }
    q = store:queue("files", { codec = "raw" })
  end)

  it("is the largest payload that is taken", function()
    assert(q:push(payload(100 * KIB)))
    local id, message, why = q:push(payload(100 * KIB + 1))
    assert.is_nil(id)
    assert.equal("TOO_LARGE", why)
    assert.matches("102401.*102400", message)
    assert_same_bytes(payload(100 * KIB), take():item(1).payload)
  end)

  it("counts the headers", function()
    assert.equal("TOO_LARGE", code(q:push(payload(100 * KIB - 10), {
      headers = { trace = "0123456789" } })))
    assert(q:push(payload(100 * KIB - 100), { headers = { h = 1 } }))
  end)

  it("lets nothing of a refused push be stored", function()
    local before = store:stats().used_bytes
    local id = q:push_many { payload(50 * KIB), payload(200 * KIB) }
    assert.is_nil(id)
    assert.same({ 0, 0 }, { q:length().total, q:stats().bytes })
    if helper.engine ~= "lmdb" then return end -- a server tidies up by itself
    assert.equal(before, store:stats().used_bytes)
  end)
end)

describe("a large payload survives", function()
  local large = payload(200000, 7)

  before_each(function()
    q:push(large, { headers = { name = "a.bin" } })
  end)

  local function assert_there()
    local item = take():item(1)
    assert_same_bytes(large, item.payload)
    assert.same({ name = "a.bin" }, item.headers)
  end

  it("a retry, a release, a snooze and a crash", function()
    settle("retry", { delay = 0 })
    settle("release")
    settle("snooze", 5)
    store:advance(5)
    assert_there()
    store:advance(31)
    assert_there()
  end)

  it("being parted from its batch", function()
    q:push_many { payload(50000, 1), payload(50, 2), payload(70000, 3) }
    local batch = take(4)
    batch:done()
    batch:item(1):retry { delay = 5 }
    batch:item(2):retry { delay = 3 }
    batch:item(4):release()
    batch:settle()
    assert_same_bytes(payload(70000, 3), take():item(1).payload)
    store:advance(3)
    assert_same_bytes(payload(50000, 1), take():item(1).payload)
    store:advance(2)
    assert_there()
  end)

  it("a delay, and the store's being closed", function()
    settle("done")
    q:push(large, { delay = 5, headers = { name = "a.bin" } })
    assert(store:close())
    store = assert(helper.open(store.path, { clock = "manual" }))
    q = store:queue("files", { codec = "raw" })
    store:advance(6)
    assert_there()
  end)

  it("death and replay", function()
    settle("dead")
    assert.equal(0, q:stats().bytes)
    assert_same_bytes(large, q.dead:oldest().payload)
    assert.is_true(q.dead:retry(1))
    assert.is_true(q:stats().bytes > 200000)
    assert_there()
  end)

  it("a replay that mends it, with what it was before", function()
    settle("dead")
    local counts = q.dead:replay { transform = function(old)
      return old .. payload(300000, 8)
    end }
    assert.equal(1, counts.moved)
    local item = take():item(1)
    assert_same_bytes(large .. payload(300000, 8), item.payload)
    assert_same_bytes(large, item.original)
  end)

  it("a hand-over to another queue", function()
    local other = store:queue("done", { codec = "raw" })
    local batch = take()
    batch:done()
    assert.is_true(batch:settle { push = { {
      queue = other, payload = batch:item(1).payload } } })
    assert_same_bytes(large, other:peek()[1].payload)
  end)
end)

describe("the bytes of large payloads are free again", function()
  local before

  -- Some megabytes, then whatever ends them.
  local function after(ending, options)
    q:push "small"
    q:push_many({ payload(MIB, 1), payload(MIB, 2), "x", payload(MIB, 3) },
                options)
    assert.is_true(store:stats().used_bytes > before + 3 * MIB)
    ending()
    assert.is_true(store:stats().used_bytes < before + 64 * KIB)
    assert.same({}, store:check())
  end

  before_each(function()
    before = store:stats().used_bytes
  end)

  it("when they are done", function()
    after(function() settle "done" end)
    assert.equal(0, q:stats().bytes)
  end)

  it("as soon as the item itself is done", function()
    q:push_many { payload(MIB, 1), payload(MIB, 2), payload(MIB, 3) }
    local batch = take(3)
    batch:item(2):done()
    batch:settle()
    assert.is_true(store:stats().used_bytes < before + 2 * MIB + 64 * KIB)
    assert_same_bytes(payload(MIB, 3), q:get(3).payload)
  end)

  it("when they are done after failures", function()
    after(function()
      settle("retry", { delay = 1 })
      store:advance(1)
      settle("snooze", 1)
      store:advance(1)
      settle "done"
    end)
  end)

  it("when they are dropped", function()
    after(function() settle "drop" end)
  end)

  it("when they are removed", function()
    after(function() for id = 2, 5 do assert(q:remove(id)) end end)
  end)

  it("when they are purged", function()
    after(function() assert.equal(5, q:purge()) end)
    assert.equal(0, q:stats().bytes)
  end)

  it("when they expire and are dropped", function()
    q = store:queue("files", { codec = "raw", on_expire = "drop" })
    after(function()
      store:advance(10)
      take()
    end, { ttl = 10 })
    assert.equal(4, q:stats().expired)
  end)

  it("when their dead letters are removed or purged", function()
    after(function()
      settle "dead"
      assert.is_true(store:stats().used_bytes > before + 3 * MIB)
      q.dead:remove(2)
      q.dead:purge()
    end)
  end)

  it("when they come back from the DLQ and are done", function()
    after(function()
      settle "dead"
      q.dead:replay { transform = function(old) return old .. "!" end }
      settle "done"
    end)
  end)

  it("when their queue is dropped", function()
    after(function() assert.is_true(store:drop_queue "files") end)
  end)
end)
