-- SPDX-License-Identifier: MIT

local helper = require "spec.helper"
local respool = require "respool"

local store, q, calls
local empty = { stop_when_empty = true }

-- A handler that notes that it was called, then does as `f` says.
local function handler(name, f)
  return function(payload, item, ...)
    calls[#calls + 1] = name
    if f then return f(payload, item, ...) end
  end
end

-- A handler that fails so many times, as `f` says.
local function shaky(name, times, f)
  return handler(name, function()
    times = times - 1
    if times >= 0 then return f() end
  end)
end

local function fail()
  error("no", 0)
end

local function called()
  local list = table.concat(calls, " ")
  calls = {}
  return list
end

before_each(function()
  store, calls = helper.store(), {}
  q = assert(store:queue("orders", {
    max_attempts = 3, retry = respool.backoff.constant { delay = 1 },
  }))
  q:push("o")
end)

local function dead_letter_after(h)
  q:work(h, empty)
  return q.dead:oldest()
end

describe("respool.chain", function()
  it("calls handlers in turn with what the one before returned", function()
    local seen
    q:work(respool.chain(
      function(payload) return payload .. "1", "more" end,
      function(payload, item, a, b) seen = { payload, item.id, a, b } end,
      handler "last"), empty)
    assert.same({ "o", 1, "o1", "more" }, seen)
    assert.equal("last", called())
    assert.equal(1, q:stats().done)
  end)

  it("stops at the first that is not done", function()
    local ways = {
      function() error "no" end, function() return nil, "no" end,
      function() return false end, function() return respool.retry() end,
      function() return respool.snooze(1) end,
      function(_, item) item:retry() end,
    }
    for _, way in ipairs(ways) do
      q:work(respool.chain(handler("a", way), handler "b"), { limit = 1 })
      assert.equal("a", called())
      store:advance(5)
      q:purge()
      q:push("o")
    end
  end)

  it("has the outcome of the one that stopped it", function()
    local l = dead_letter_after(respool.chain(handler "a", function()
      return respool.dead { group = "bad", error = "no" }
    end))
    assert.same({ "bad", "no" }, { l.group, l.error })
  end)

  it("refuses what is no handler", function()
    assert.error_matches(function() respool.chain() end,
                         "bad argument #1 to 'chain' %(a function")
    assert.error_matches(function() respool.chain(print, 1) end,
                         "bad argument #2 to 'chain' %(a function")
  end)

  -- A nil ended the list of arguments: what followed was never called.
  it("refuses nil, as a mistyped name is, wherever it stands", function()
    assert.error_matches(function() respool.chain(print, nil, print) end,
                         "bad argument #2 to 'chain' %(a function")
    assert.error_matches(function() respool.chain(print, nil) end,
                         "bad argument #2 to 'chain' %(a function")
  end)
end)

describe("respool.fan_out", function()
  it("calls all, and the item is done when all accepted", function()
    q:work(respool.fan_out { b = handler "b", a = handler "a" }, empty)
    assert.equal("a b", called())
    assert.equal(1, q:stats().done)
  end)

  it("calls a list in its order", function()
    local list = {}
    for i = 1, 11 do list[i] = handler(i) end
    q:work(respool.fan_out(list), empty)
    assert.equal("1 2 3 4 5 6 7 8 9 10 11", called())
  end)

  it("calls on a retry only those that have not accepted", function()
    q:work(respool.fan_out {
      a = handler "a", b = shaky("b", 1, fail),
      c = shaky("c", 2, function() return nil, "no" end),
    }, empty)
    assert.equal("a b c b c c", called())
    assert.equal(1, q:stats().done)
  end)

  it("remembers in another process", function()
    q:work(respool.fan_out { a = handler "a", b = shaky("b", 1, fail) },
           { limit = 1 })
    store:flush()
    local process = helper.spawn([[
      local respool = require "respool"
      local store = assert(respool.open(arg[1], { clock = "manual" }))
      store:advance(3600)
      local q = store:queue "orders"
      q:work(respool.fan_out {
        a = function() print "a" end, b = function() print "b" end,
      }, { stop_when_empty = true })
      store:close()
    ]], store.path)
    assert.equal(0, process:wait())
    assert.equal("b\n", process:output())
  end)

  it("remembers through death and replay", function()
    dead_letter_after(respool.fan_out {
      a = handler "a", b = handler("b", function() return false end),
    })
    assert.equal("a b b b", called())
    q.dead:retry(1)
    q:work(respool.fan_out { a = handler "a", b = handler "b" }, empty)
    assert.equal("b", called())
  end)

  it("remembers through a death in a full queue", function()
    dead_letter_after(respool.fan_out {
      a = handler "a", b = handler("b", function() return false end),
    })
    local memo = q.dead:oldest().memo
    assert.is_string(memo)
    assert(store:queue("orders", { max_items = 1, overflow = "dead" }))
    assert(q:push "other")
    assert(q.dead:retry(1))
    assert.equal(1, q:length().total)
    assert.equal("overflow", q.dead:oldest().reason)
    assert.equal(memo, q.dead:oldest().memo)
  end)

  it("remembers through decide, release and snooze", function()
    local said = { respool.release(), respool.snooze(1) }
    q:work(respool.fan_out {
      a = handler "a", b = handler("b", function()
        return table.remove(said, 1)
      end),
    }, { timeout = 1 })
    assert.equal("a b b b", called())
    local other = store:queue("other", {
      decide = function() return "release" end,
    })
    other:push(1)
    other:work(respool.fan_out {
      a = handler "a", b = shaky("b", 1, fail),
    }, empty)
    assert.equal("a b b", called())
  end)

  -- One claim has one memo: items released beside one that remembers must
  -- not take its memory for theirs.
  it("remembers nothing of another item", function()
    q:push_many { "p", "q" }
    local batch, h = q:take { limit = 3 }, respool.fan_out {
      a = handler "a", b = respool.release,
    }
    local item = batch:item(1)
    assert.equal(respool.release().kind, h(1, item).kind)
    item:release()
    batch:release()
    batch:settle()
    for _, it in q:take { limit = 3 }:each() do
      assert.equal(it.id == 1, it.memo ~= nil)
    end
  end)

  it("counts one that drops as one that wants no more", function()
    q:work(respool.fan_out {
      a = handler("a", function() return respool.drop() end),
      b = shaky("b", 1, fail),
    }, empty)
    assert.equal("a b b", called())
    assert.equal(1, q:stats().done)
  end)

  it("is dead when the last that is open says so", function()
    local l = dead_letter_after(respool.fan_out {
      a = handler "a",
      b = handler("b", function()
        return respool.dead { group = "bad", error = "no", dlq = "orders" }
      end),
      c = handler "c",
    })
    assert.equal("a b c", called())
    assert.same({ "rejected", "bad", "b: no" }, { l.reason, l.group, l.error })
  end)

  -- One that refused for good took the item from those that had failed for a
  -- moment: of 100 items 88 died without a request to the healthy receiver.
  it("goes on with those that may accept, whoever refuses for good",
     function()
    local l = dead_letter_after(respool.fan_out {
      a = handler("a", function() return respool.dead { error = "never" } end),
      b = shaky("b", 2, fail), c = handler "c",
    })
    assert.equal("a b c b b", called())
    assert.same({ "rejected", "a: never", 2 },
                { l.reason, l.error, l.attempts - 1 })
  end)

  it("names who refused for good when it dies of its attempts", function()
    local l = dead_letter_after(respool.fan_out {
      a = handler("a", function() return respool.dead { error = "never" } end),
      b = handler("b", fail),
    })
    assert.equal("exhausted", l.reason)
    assert.equal("b: no; a: never", l.error)
  end)

  it("asks those again that refused, after a replay", function()
    local said = { respool.dead { error = "never" } }
    local h = respool.fan_out {
      a = handler "a",
      b = handler("b", function() return table.remove(said) end),
    }
    local l = dead_letter_after(h)
    q.dead:retry(l.number)
    q:work(h, empty)
    assert.equal("a b b", called())
  end)

  it("is dead when an error is not retryable", function()
    local l = dead_letter_after(respool.fan_out { a = function()
      error { message = "gone", retryable = false, group = "410" }
    end })
    assert.same({ "rejected", "410", "a: gone" },
                { l.reason, l.group, l.error })
  end)

  it("names those that failed, with the place of the first", function()
    local function unlucky() error "no luck" end
    local l = dead_letter_after(respool.fan_out {
      a = function() unlucky() end, b = handler "b",
      c = function() return nil, "nor here" end,
    })
    assert.matches("^a: .*no luck; c: nor here$", l.error)
    assert.matches("unlucky", l.history[1].trace)
  end)

  it("waits as long as the longest says", function()
    local before = store:now()
    q:work(respool.fan_out {
      a = function() return respool.retry { delay = 20 } end,
      b = function() return respool.retry { delay = 60 } end,
      c = function() return respool.snooze(40) end,
    }, { limit = 1 })
    assert.near(before + 60, q:get(1).visible_at, 0.1)
    assert.equal(1, q:get(1).attempts)
  end)

  it("spends nothing when all only snooze", function()
    q:work(respool.fan_out {
      function() return respool.snooze(5) end, respool.release,
    }, { limit = 1 })
    assert.equal(0, q:get(1).attempts)
    assert.near(store:now() + 5, q:get(1).visible_at, 0.1)
  end)

  it("ends at a mark made by hand", function()
    q:work(respool.fan_out {
      a = handler "a",
      b = handler("b", function(_, item) item:retry { delay = 7 } end),
      c = handler "c",
    }, { limit = 1 })
    assert.equal("a b", called())
    assert.near(store:now() + 7, q:get(1).visible_at, 0.1)
    store:advance(7)
    q:work(respool.fan_out {
      a = handler "a", b = handler "b", c = handler "c",
    }, empty)
    assert.equal("b c", called())
  end)

  it("knows its handlers by their place in chains and fan-outs", function()
    local two = respool.chain(
      respool.fan_out { handler "1", handler "2" },
      respool.fan_out { handler "3", respool.fan_out {
        shaky("4", 1, fail), handler "5",
      } },
      shaky("end", 1, fail))
    q:work(two, empty)
    assert.equal("1 2 3 4 5 4 end end", called())
  end)

  it("ends when the store is closed", function()
    q:work(respool.fan_out {
      a = handler("a", function() store:close() end), b = handler "b",
    }, empty)
    assert.equal("a", called())
  end)

  it("refuses what are no handlers", function()
    assert.error_matches(function() respool.fan_out(print) end,
                         "bad argument #1 to 'fan_out' %(a table")
    assert.error_matches(function() respool.fan_out {} end,
                         "bad argument #1 to 'fan_out'")
    assert.error_matches(function() respool.fan_out { a = 1 } end,
                         "handlers must be functions by name")
    assert.error_matches(function()
      respool.fan_out { [1] = print, ["1"] = print }
    end, "two handlers are named '1'")
    assert.error_matches(function()
      respool.fan_out { [("x"):rep(5000)] = print }
    end, "too long")
  end)
end)

-- The pushes of a handler that had accepted were given up when another one
-- failed, and it was not called again: they were lost.
describe("what a fan-out pushes", function()
  local log

  before_each(function() log = store:queue "log" end)

  -- A handler that pushes its name, then does as `f` says.
  local function pushing(name, f)
    return function(payload, item)
      item:push(log, name)
      if f then return f(payload, item) end
    end
  end

  local function pushed()
    return table.concat(helper.payloads(log), " ")
  end

  -- Works on the item once, and lets what it waits for come.
  local function once(h)
    q:work(h, { limit = 1 })
    store:advance(100)
  end

  it("goes with a retry if it was accepted, and only then", function()
    once(respool.fan_out { a = pushing "a", b = pushing("b", fail) })
    assert.equal("a", pushed())
    once(respool.fan_out { a = pushing "a", b = pushing "b" })
    assert.equal("a b", pushed())
    assert.equal(1, q:stats().done)
  end)

  it("goes with any outcome that goes on", function()
    for _, say in ipairs {
      function() return respool.release() end,
      function() return respool.snooze(1) end,
      function() return respool.retry { delay = 1 } end,
      function(_, item) item:retry { delay = 1 } end,
    } do
      local h = respool.fan_out { a = pushing "a", b = pushing("b", say) }
      once(h)
      once(h)
      assert.equal("a", pushed())
      q:purge()
      log:purge()
      q:push "o"
    end
  end)

  it("goes with an item that dies, once", function()
    local h = respool.fan_out { a = pushing "a", b = pushing("b", fail) }
    for _ = 1, 3 do once(h) end
    assert.equal(1, q.dead:count())
    assert.equal("a", pushed())
    q.dead:retry(1)
    once(respool.fan_out { a = pushing "a", b = pushing "b" })
    assert.equal("a b", pushed())
  end)

  it("goes with an item that is rejected or dropped", function()
    once(respool.fan_out {
      a = pushing "a", b = pushing("b", function() return respool.dead() end),
    })
    assert.equal("a", pushed())
    q = store:queue("orders", { decide = function() return "drop" end })
    q:push "o"
    once(respool.fan_out { a = pushing "a", b = pushing("b", fail) })
    assert.equal("a a", pushed())
    assert.equal(0, q:length().total)
  end)

  it("does not go if its handler wants no more of the item", function()
    once(respool.fan_out {
      a = pushing("a", function() return respool.drop() end),
      b = pushing "b",
    })
    assert.equal("b", pushed())
  end)

  it("does not go if its failure is caught around it", function()
    local h = respool.fan_out { a = pushing "a", b = pushing("b", fail) }
    once(function(payload, item) pcall(h, payload, item) end)
    assert.equal("a", pushed())
    assert.equal(1, q:stats().done)
  end)

  it("is that of a whole chain within it", function()
    once(respool.fan_out {
      a = respool.chain(pushing "a1", pushing "a2"),
      b = respool.chain(pushing "b1", pushing("b2", fail)),
    })
    assert.equal("a1 a2", pushed())
    once(respool.fan_out {
      a = respool.chain(pushing "a1", pushing "a2"),
      b = respool.chain(pushing "b1", pushing "b2"),
    })
    assert.equal("a1 a2 b1 b2", pushed())
  end)

  it("goes within a chain that fails, whose own pushes do not", function()
    local function whole(last)
      return respool.chain(pushing "1", respool.fan_out {
        a = pushing "a", b = respool.fan_out { pushing "b" },
      }, pushing("3", last))
    end
    once(whole(fail))
    assert.equal("a b", pushed())
    once(whole())
    assert.equal("a b 1 3", pushed())
  end)

  it("goes within a handler of a fan-out that fails", function()
    local function whole(last)
      return respool.fan_out { x = respool.chain(
        respool.fan_out { a = pushing "a", b = pushing("b", last) },
        pushing "c") }
    end
    once(whole(fail))
    assert.equal("a", pushed())
    once(whole())
    assert.equal("a b c", pushed())
  end)

  it("goes with the outcome that a transaction gives", function()
    local h = respool.fan_out { a = pushing "a", b = pushing("b", fail) }
    once(function(payload, item)
      pcall(h, payload, item)
      store:transaction(function(tx) tx:retry(item, { delay = 1 }) end)
    end)
    assert.equal("a", pushed())
    once(respool.fan_out { a = pushing "a", b = pushing "b" })
    assert.equal("a b", pushed())
  end)

  it("goes with an item that is released as the store is closed", function()
    local h = respool.fan_out {
      a = pushing "a", b = function() store:close() end,
    }
    q:work(h)
    store = assert(helper.open(store.path, { clock = "manual" }))
    q, log = store:queue "orders", store:queue "log"
    assert.equal("a", pushed())
    once(respool.fan_out { a = pushing "a" })
    assert.equal("a", pushed())
  end)

  it("does not go when the lease was lost", function()
    once(respool.fan_out { a = pushing "a", b = function()
      store:advance(4000)
      q:take():close()
      error "no"
    end })
    assert.equal("", pushed())
    once(respool.fan_out { a = pushing "a", b = pushing "b" })
    assert.equal("a b", pushed())
  end)

  it("is pushed again when it was refused; others are not called", function()
    store:queue("log", { max_items = 0 })
    local h = respool.fan_out {
      a = pushing "a", b = handler "b", c = shaky("c", 1, fail),
    }
    once(h)
    assert.equal("b c", called())
    assert.matches("c: no; item:push: .*full", q:peek()[1].error)
    store:queue("log", { max_items = 9 })
    once(h)
    assert.equal("c", called())
    assert.equal("a", pushed())
    assert.equal(1, q:stats().done)
  end)
end)
