-- SPDX-License-Identifier: MIT
--
-- Closing a store: what was given to it is on disk, leases are
-- handed back, and handlers may come to their end.

local helper = require "spec.helper"
local respool = require "respool"
local payloads = helper.payloads

local empty = { stop_when_empty = true }

local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue "orders")
end)

-- The store opened again, and its queue.
local function again(options)
  local new = assert(helper.open(store.path, { clock = "manual" }))
  assert.same({}, new:check())
  return assert(new:queue("orders", options)), new
end

-- A handler that runs in a coroutine and yields once; the rest of it is run
-- by calling what is returned.
local function suspended(queue, rest)
  local counts
  local work = coroutine.wrap(function()
    counts = queue:work(function(payload)
      coroutine.yield()
      return rest(payload)
    end)
  end)
  work()
  return function()
    work()
    return counts
  end
end

-- Calls f(seconds) whenever a store is about to sleep.
local function while_sleeping(f)
  local methods = getmetatable(store.handle).__index
  local sleep = methods.sleep
  methods.sleep = function(handle, seconds)
    f(seconds)
    return sleep(handle, seconds)
  end
  finally(function() methods.sleep = sleep end)
end

describe("store:close", function()
  it("flushes buffers", function()
    local b = store:queue("orders", { buffer = { items = 100 } })
    for i = 1, 5 do b:push(i) end
    assert.equal(0, q:length().total)
    assert.is_true(store:close())
    local after = again()
    assert.same({ 1, 2, 3, 4, 5 }, payloads(after))
    assert.equal(1, after:stats().flushes.close)
  end)

  it("settles what is marked and hands the other leases back", function()
    q:push_many { "a", "b", "c" }
    q:take { limit = 2 }:item(1):done()
    q:take()
    assert.is_true(store:close())
    local after = again()
    assert.equal(1, after:stats().done)
    assert.equal(2, after:length().ready)
    assert.equal(0, after:peek()[1].attempts)
  end)

  it("may be called again", function()
    assert.is_true(store:close())
    assert.is_true(store:close())
    assert.is_true(store:close(5))
  end)

  it("says what could not be flushed, and how much", function()
    local b = store:queue("orders", { max_items = 0, buffer = { items = 9 } })
    for i = 1, 3 do b:push(i) end
    local ok, message, code, left = store:close()
    assert.is_nil(ok)
    assert.matches("full", message)
    assert.equal("FULL", code)
    assert.same({ handlers = 0, batches = 0, buffered = 3 }, left)
    assert.is_true(store:close())
    assert.matches("closed", tostring(store))
  end)

  it("tries to flush until the deadline, and no longer", function()
    local b = store:queue("orders", { max_items = 1, buffer = { items = 9 } })
    b:push(1)
    b:push(2)
    local slept, tries = 0, 0
    while_sleeping(function(seconds)
      slept, tries = slept + seconds, tries + 1
    end)
    assert.equal("FULL", select(3, store:close(10)))
    assert.near(10, slept, 0.001)
    assert.is_true(tries > 1)
  end)

  it("flushes what finds room before the deadline", function()
    local b = store:queue("orders", { max_items = 1, buffer = { items = 9 } })
    b:push(1)
    b:flush()
    b:push(2)
    local other = assert(helper.open(store.path))
    while_sleeping(function()
      other:queue("orders"):work(function() end, { timeout = 0 })
    end)
    assert.is_true(store:close(10))
    assert.same({ 2 }, payloads(again()))
  end)

  it("says how many batches could not be settled", function()
    q:push "a"
    local batch = q:take { lease = 5 }
    batch:done()
    store:advance(6)
    assert.equal(1, #q:take())
    local ok, _, code, left = store:close()
    assert.is_nil(ok)
    assert.equal("LEASE_LOST", code)
    assert.equal(1, left.batches)
  end)

  it("tells on_error too", function()
    local errors = {}
    store = assert(helper.open(helper.location(), {
      clock = "manual",
      on_error = function(err) table.insert(errors, err) end,
    }))
    q = store:queue("orders", { max_items = 0, buffer = { items = 9 } })
    q:push(1)
    store:close()
    assert.equal("close", errors[#errors].where)
    assert.equal("FULL", errors[#errors].code)
  end)

  it("refuses what is no time and no function", function()
    for _, value in ipairs { -1, "x", math.huge } do
      assert.error_matches(function() store:close(value) end,
                           "bad argument #1 to 'close'")
    end
    assert.error_matches(function() store:close(1, 2) end,
                         "bad argument #2 to 'close' %(a function expected")
  end)
end)

describe("a store that is closed by a handler", function()
  it("is closed at once when not told otherwise; the item goes back",
     function()
    q:push_many { "a", "b" }
    local counts = q:work(function()
      assert.is_true(store:close())
      assert.matches("closed", tostring(store))
    end)
    assert.equal(0, counts.done)
    assert.same({ "a", "b" }, payloads(again()))
  end)

  it("lets the handler push and end when given time", function()
    q:push_many { "a", "b" }
    local counts = q:work(function(payload)
      assert.is_true(store:close(10))
      assert(q:push(payload .. "!"))
    end)
    assert.equal(1, counts.done)
    assert.matches("closed", tostring(store))
    assert.same({ "b", "a!" }, payloads(again()))
  end)

  it("takes pushes into a buffer meanwhile, and flushes them", function()
    q:push "a"
    local b = store:queue("orders", { buffer = { items = 100 } })
    local log = store:queue("log", { buffer = { items = 100, interval = 60 } })
    b:work(function()
      store:close(10)
      assert.is_true(b:push "b")
      assert.is_true(log:push "c")
    end)
    local after, new = again()
    assert.same({ "b" }, payloads(after))
    assert.same({ "c" }, payloads(new:queue "log"))
  end)

  it("takes pushes in the item's own commit, and in a transaction",
     function()
    q:push "a"
    q:work(function(_, item)
      store:close(10)
      item:push(q, "b")
      store:transaction(function(tx) tx:push(q, "c") end)
    end)
    assert.same({ "c", "b" }, payloads(again()))
  end)

  -- The second one closed the store at once: what the handler did was
  -- done again.
  it("lets the handler end when that closes it twice", function()
    q:push_many { "a", "b" }
    local counts = q:work(function()
      assert.is_true(store:close(10))
      assert.is_true(store:close())
      assert.is_true(store:close(1))
      assert.not_matches("closed", tostring(store))
    end)
    assert.equal(1, counts.done)
    assert.matches("closed", tostring(store))
    assert.same({ "b" }, payloads(again()))
  end)

  it("is closed by the second when the deadline of the first is over",
     function()
    q:push "a"
    local counts = q:work(function()
      store:close(10)
      store:advance(11)
      assert.is_true(store:close())
      assert.matches("closed", tostring(store))
    end)
    assert.equal(0, counts.done)
    assert.same({ "a" }, payloads(again()))
  end)

  it("tells the handler that it is to stop, and begins nothing new",
     function()
    q:push_many { "a", "b", "c" }
    local other = store:queue "other"
    local stopping, code
    q:work(function(_, item)
      store:close(10)
      stopping = item:stopping()
      code = select(3, other:work(function() end))
    end)
    assert.is_true(stopping)
    assert.equal("CLOSED", code)
    assert.same({ "b", "c" }, payloads(again()))
  end)

  it("takes no push after the deadline", function()
    q:push "a"
    local code
    q:work(function()
      store:close(10)
      store:advance(11)
      code = select(3, q:push "b")
    end)
    assert.equal("CLOSED", code)
    assert.same({}, payloads(again()))
  end)

  it("is closed even if that handler always fails", function()
    q = store:queue("orders", {
      max_attempts = math.huge, retry = respool.backoff.constant { delay = 0 },
    })
    q:push_many { "a", "b" }
    local calls = 0
    local counts = q:work(function()
      calls = calls + 1
      store:close(10)
      error "no"
    end)
    assert.equal(1, calls)
    assert.equal(1, counts.failed)
    assert.matches("closed", tostring(store))
    assert.equal(2, again():length().ready)
  end)

  it("lets work tell what closing could not do", function()
    q:push "a"
    local small = store:queue("small",
      { max_items = 0, buffer = { items = 9 } })
    local ok, message, code, counts = q:work(function()
      store:close(1)
      small:push "b"
    end)
    assert.is_nil(ok)
    assert.matches("full", message)
    assert.equal("FULL", code)
    assert.equal(1, counts.done)
  end)
end)

describe("a store that is closed while handlers are suspended", function()
  it("waits for them, by letting them run", function()
    q:push_many { "a", "b" }
    local go_on = suspended(q, function(payload)
      assert(q:push(payload .. "!"))
    end)
    local slices, counts, outside = {}, nil, nil
    assert.is_true(store:close(10, function(seconds)
      slices[#slices + 1] = seconds
      outside = select(3, q:push "from outside")
      counts = go_on()
    end))
    assert.equal(1, counts.done)
    assert.equal("CLOSED", outside)
    assert.equal(1, #slices)
    assert.is_true(slices[1] > 0 and slices[1] <= 10)
    assert.same({ "b", "a!" }, payloads(again()))
  end)

  it("refuses many pushes, and buffered ones, from outside", function()
    q:push "a"
    local b = store:queue("orders", { buffer = { items = 100 } })
    local go_on = suspended(q, function() end)
    local codes = {}
    store:close(10, function()
      codes[1] = select(3, q:push_many { 1, 2 })
      codes[2] = select(3, b:push(3))
      codes[3] = select(3, q:work(function() end, empty))
      go_on()
    end)
    assert.same({ "CLOSED", "CLOSED", "CLOSED" }, codes)
    assert.same({}, payloads(again()))
  end)

  it("refuses takes and transactions from outside", function()
    q:push_many { "a", "b" }
    local batch = q:take()
    local go_on = suspended(q, function() end)
    local codes = {}
    store:close(10, function()
      batch:done()
      codes[1] = select(3, q:take())
      codes[2] = select(3, batch:settle { take = {} })
      codes[3] = select(3, store:begin())
      codes[4] = select(3, store:transaction(function() end))
      go_on()
    end)
    assert.same({ "CLOSED", "CLOSED", "CLOSED", "CLOSED" }, codes)
    assert.same({}, payloads(again()))
  end)

  it("does not wait beyond the deadline, and says for whom", function()
    q:push_many { "a", "b" }
    local go_on = suspended(q, function() end)
    local ok, message, code, left = store:close(10, function(seconds)
      store:advance(seconds + 1)
    end)
    assert.is_nil(ok)
    assert.matches("1 handler", message)
    assert.equal("TIMEOUT", code)
    assert.same({ handlers = 1, batches = 0, buffered = 0 }, left)
    assert.same({ "a", "b" }, payloads(again()))
    assert.equal(0, go_on().done)
  end)

  it("waits for none without a way to let them run", function()
    q:push "a"
    local go_on = suspended(q, function() end)
    assert.is_true(store:close(10))
    assert.equal(0, go_on().done)
    assert.same({ "a" }, payloads(again()))
  end)

  it("is closed by the last of them when one of them closes it", function()
    q:push_many { "a", "b" }
    local one = suspended(store:queue "orders", function()
      store:close(10)
    end)
    store:queue("others"):push "c"
    local other = suspended(store:queue "others", function() end)
    one()
    assert.not_matches("closed", tostring(store))
    other()
    assert.matches("closed", tostring(store))
    assert.same({ "b" }, payloads(again()))
  end)

  -- A coroutine that closes the store and has begun to wait.
  local function closing()
    local closer = coroutine.wrap(function()
      return store:close(100, coroutine.yield)
    end)
    closer()
    return closer
  end

  it("is left to who closes it when closed again", function()
    q:push "a"
    local go_on = suspended(q, function() end)
    local closer = closing()
    assert.is_true(store:close())
    assert.is_true(store:close(5))
    assert.is_true(store:close(500, error))
    assert.not_matches("closed", tostring(store))
    assert.equal(1, go_on().done)
    assert.is_true(closer())
    assert.matches("closed", tostring(store))
    assert.same({}, payloads(again()))
  end)

  it("is closed by the next when the deadline of the first is over",
     function()
    q:push "a"
    local go_on = suspended(q, function() end)
    local closer = closing()
    store:advance(101)
    assert.is_true(store:close())
    assert.matches("closed", tostring(store))
    assert.is_true(closer())
    assert.equal(0, go_on().done)
    assert.same({ "a" }, payloads(again()))
  end)

  it("is closed by the next when the first was given up", function()
    q:push "a"
    local go_on = suspended(q, function() end)
    assert.error_matches(function()
      store:close(100, function() error "no time" end)
    end, "no time")
    assert.is_true(store:close())
    assert.matches("closed", tostring(store))
    assert.equal(0, go_on().done)
    q, store = again()
    assert.same({ "a" }, payloads(q))

    go_on = suspended(q, function() end)
    closing()
    collectgarbage()
    collectgarbage()
    assert.is_true(store:close())
    assert.equal(0, go_on().done)
    assert.same({ "a" }, payloads(again()))
  end)

  it("is closed when it was left to a handler that nobody runs", function()
    q:push "a"
    do
      local work = coroutine.wrap(function()
        q:work(function()
          store:close(100)
          coroutine.yield()
        end)
      end)
      work()
    end
    collectgarbage()
    collectgarbage()
    assert.is_true(store:close())
    assert.matches("closed", tostring(store))
    assert.same({ "a" }, payloads(again()))
  end)

  it("is closed by leaving its scope, whoever is at it", function()
    q:push "a"
    local go_on = suspended(q, function() end)
    local closer = closing()
    getmetatable(store).__close(store)
    assert.matches("closed", tostring(store))
    closer()
    assert.equal(0, go_on().done)
    assert.same({ "a" }, payloads(again()))
  end)
end)
