-- SPDX-License-Identifier: MIT

local helper = require "spec.helper"
local respool = require "respool"
local payloads = helper.payloads

local store, orders, mails

before_each(function()
  store = helper.store()
  orders = assert(store:queue("orders", { lease = 10 }))
  mails = assert(store:queue "mails")
end)

local function sound()
  assert.same({}, store:check())
end

describe("store:transaction", function()
  it("commits pushes to several queues at once", function()
    local order, mail
    assert.is_true(store:transaction(function(tx)
      order = tx:push(orders, { sku = 1 })
      mail = tx:push_many(mails, { "a", "b" }, { priority = 3 })
      assert.equal(0, orders:length().total)
      assert.is_nil(order.id)
    end))
    assert.equal(1, orders:get(order.id).payload.sku)
    assert.equal(2, mail.n)
    assert.equal("b", mails:get(mail.id + 1).payload)
    assert.equal(3, mails:get(mail.id + 1).priority)
    sound()
  end)

  it("says which pushes were ignored, as their key is held", function()
    local keyed, steps = store:queue "keyed", {}
    local id = keyed:push("a", { key = "k1" })
    store:transaction(function(tx)
      for i = 1, 2 do
        steps[i] = tx:push(keyed, "b", {
          key = "k" .. i, on_conflict = "ignore",
        })
      end
    end)
    assert.same({ id, true }, { steps[1].id, steps[1].held })
    assert.is_false(steps[2].held)
    assert.equal("b", keyed:get(steps[2].id).payload)
  end)

  it("returns what the function returns", function()
    assert.same({ 1, nil, 3 },
                { store:transaction(function() return 1, nil, 3 end) })
    assert.equal(7, store:transaction(function() return 7 end))
  end)

  it("hands an item over: done here, pushed there, in one commit", function()
    orders:push("o")
    local batch = orders:take()
    assert(store:transaction(function(tx)
      tx:done(batch:item(1))
      tx:push(mails, "m")
    end))
    assert.equal(1, orders:stats().done)
    assert.same({ "m" }, payloads(mails))
    sound()
  end)

  it("gives items every outcome", function()
    orders:push_many { "retry", "release", "snooze", "dead", "drop" }
    local batch = orders:take { limit = 5 }
    store:transaction(function(tx)
      tx:retry(batch:item(1), { delay = 5, error = "later" })
      tx:release(batch:item(2))
      tx:snooze(batch:item(3), 9)
      tx:dead(batch:item(4), { group = "bad", error = "no" })
      tx:drop(batch:item(5))
    end)
    assert.same({ ready = 1, leased = 0, scheduled = 1, retrying = 1,
                  dead = 1, total = 3 },
                orders:length())
    assert.equal("later", orders:get(1).error)
    assert.equal("bad", orders.dead:oldest().group)
    assert.equal(1, orders:stats().removed)
    sound()
  end)

  it("takes the last word on an item", function()
    orders:push("o")
    local item = orders:take():item(1)
    store:transaction(function(tx)
      tx:retry(item)
      tx:done(item)
    end)
    assert.equal(1, orders:stats().done)
    assert.error_matches(function() item:done() end, "already settled")
  end)

  it("carries along what an item pushed that it settles as done", function()
    orders:push_many { 1, 2 }
    local batch = orders:take { limit = 2 }
    batch:item(1):push(mails, "one")
    batch:item(2):push(mails, "two")
    store:transaction(function(tx)
      tx:done(batch:item(1))
      tx:release(batch:item(2))
    end)
    assert.same({ "one" }, payloads(mails))
  end)

  it("moves dead letters and removes them", function()
    orders:push_many { "a", "b", "c" }
    orders:work(function() return respool.dead() end, { limit = 3 })
    assert(store:transaction(function(tx)
      tx:replay(orders.dead, 1)
      tx:replay(orders.dead, 2, { to = mails })
      tx:remove(orders.dead, 3)
    end))
    assert.same({ "a" }, payloads(orders))
    assert.same({ "b" }, payloads(mails))
    assert.equal(0, orders.dead:count())
    sound()
  end)

  it("does nothing when a dead letter is gone", function()
    local ok, message, code = store:transaction(function(tx)
      tx:push(orders, "o")
      tx:remove(orders.dead, 5)
    end)
    assert.is_nil(ok)
    assert.equal([[there is no dead letter 5 in DLQ 'orders']], message)
    assert.equal("NOT_FOUND", code)
    assert.equal(0, orders:length().total)
  end)

  it("does nothing when there is no room", function()
    local small = store:queue("small", { max_items = 1 })
    local _, _, code = store:transaction(function(tx)
      tx:push(orders, "o")
      tx:push_many(small, { 1, 2 })
    end)
    assert.equal("FULL", code)
    assert.equal(0, orders:length().total)
  end)

  it("does nothing when a lease was lost", function()
    orders:push("o")
    local batch = orders:take()
    store:advance(11)
    orders:take()
    local _, _, code = store:transaction(function(tx)
      tx:push(mails, "m")
      tx:done(batch:item(1))
    end)
    assert.equal("LEASE_LOST", code)
    assert.equal(0, mails:length().total)
  end)

  -- The settle that found the lease lost gave the hold up; a transaction
  -- must not take that for settled and push what was handed over.
  it("knows a lease that a settle has found lost", function()
    orders:push("o")
    local batch = orders:take()
    store:advance(11)
    orders:take()
    batch:done()
    assert.equal("LEASE_LOST", select(3, batch:settle()))
    local _, _, code = store:transaction(function(tx)
      tx:done(batch:item(1))
      tx:push(mails, "m")
    end)
    assert.equal("LEASE_LOST", code)
    assert.equal(0, mails:length().total)
  end)

  it("does not happen when an item was settled meanwhile", function()
    orders:push("o")
    local batch = orders:take()
    assert.error_matches(function()
      store:transaction(function(tx)
        tx:done(batch:item(1))
        tx:push(mails, "m")
        batch:done()
        batch:settle()
      end)
    end, "already settled")
    assert.equal(0, mails:length().total)
  end)

  it("raises when the batch of an item was closed meanwhile", function()
    orders:push("o")
    assert.error_matches(function()
      store:transaction(function(tx)
        local batch = orders:take()
        tx:done(batch:item(1))
        batch:close()
      end)
    end, "attempt to use a closed batch")
    assert.equal(1, orders:length().ready)
  end)

  it("lets go of nothing that an item of it needs", function()
    orders:push("o")
    store:transaction(function(tx)
      for _, item in orders:take():each() do tx:done(item) end
      collectgarbage()
      collectgarbage()
    end)
    assert.equal(1, orders:stats().done)
  end)

  it("settles in a handler; the work goes on", function()
    orders:push_many { 1, 2, 3 }
    local counts = orders:work(function(n, item)
      return store:transaction(function(tx)
        tx:push(mails, n)
        tx:done(item)
      end)
    end, { stop_when_empty = true })
    assert.equal(3, counts.done)
    assert.same({ 1, 2, 3 }, payloads(mails))
    sound()
  end)

  it("stands, whatever the handler says afterwards", function()
    orders:push_many { 1, 2 }
    local seen = {}
    orders:work(function(n, item)
      store:transaction(function(tx) tx:done(item) end)
      if n == 1 then error "too late" end
      return respool.retry()
    end, { stop_when_empty = true, on_error = function(err)
      table.insert(seen, err)
    end })
    assert.equal(2, orders:stats().done)
    assert.equal(1, #seen)
    assert.matches("too late", seen[1])
  end)

  it("honours check and codec of a queue", function()
    local raw = store:queue("raw", {
      codec = "raw", validate = function(s) assert(#s < 3, "too long") end,
    })
    assert.error_matches(function()
      store:transaction(function(tx) tx:push(raw, "abc") end)
    end, "too long")
    store:transaction(function(tx) tx:push(raw, "ab") end)
    assert.equal("ab", raw:peek()[1].bytes)
  end)

  it("settles with an item what was merged into it", function()
    orders:push_many { 1, 2, 3 }
    orders:work(function(sum, item)
      store:transaction(function(tx)
        tx:done(item)
        tx:push(mails, sum)
      end)
      assert.equal(3, orders:stats().done)
    end, { stop_when_empty = true, merge = {
      key = function() return "all" end,
      with = function(a, b) return a + b end,
    } })
    assert.same({ 6 }, payloads(mails))
    assert.equal(0, orders:stats().retried)
  end)

  it("pushes nothing while the store is closing", function()
    local said
    local co = coroutine.wrap(function()
      orders:work(function() coroutine.yield() end, { limit = 1 })
    end)
    orders:push("o")
    co()
    store:close(10, function()
      said = said or { store:transaction(function(tx)
        tx:push(mails, "late")
      end) }
      co()
    end)
    assert.equal("CLOSED", said[3])
  end)

  it("routes what dies as the queue says", function()
    local q = store:queue("routed", { dead_letter = function(item, err)
      return item.payload .. "/" .. err
    end })
    q:push("a")
    store:transaction(function(tx)
      tx:dead(q:take():item(1), { error = "why" })
    end)
    assert.equal(1, store:dead("a/why"):count())
  end)
end)

describe("an error in a transaction", function()
  it("goes on as it is; nothing has happened", function()
    local err = setmetatable({}, { __tostring = function() return "x" end })
    local ok, raised = pcall(store.transaction, store, function(tx)
      tx:push(orders, "o")
      error(err)
    end)
    assert.is_false(ok)
    assert.equal(err, raised)
    assert.equal(0, orders:length().total)
  end)

  it("may be nil", function()
    local ok, raised = pcall(store.transaction, store, function(tx)
      tx:push(orders, "o")
      error()
    end)
    assert.is_false(ok)
    assert.is_nil(raised)
    assert.equal(0, orders:length().total)
  end)

  it("leaves the place where it was raised in the history", function()
    local function unlucky() error "no" end
    local q = store:queue("once", { max_attempts = 1 })
    q:push("o")
    q:work(function()
      store:transaction(function() unlucky() end)
    end, { limit = 1 })
    assert.matches("unlucky", q.dead:oldest().history[1].trace)
  end)

  it("leaves the store ready for the next", function()
    pcall(store.transaction, store, error)
    assert.equal(1, store:transaction(function() return 1 end))
    assert.is_nil(next(store.transactions))
  end)
end)

describe("a nested transaction", function()
  it("joins its parent", function()
    store:transaction(function(tx)
      assert.equal(5, store:transaction(function(inner)
        assert.equal(tx, inner)
        inner:push(orders, "o")
        return 5
      end))
      assert.equal(0, orders:length().total)
    end)
    assert.equal(1, orders:length().total)
  end)

  it("can fail alone", function()
    orders:push("o")
    local item, inner = orders:take():item(1), nil
    store:transaction(function(tx)
      tx:push(mails, "outer")
      tx:done(item)
      local ok, err = pcall(store.transaction, store, function()
        inner = tx:push(mails, "inner")
        tx:retry(item)
        error("inner", 0)
      end)
      assert.same({ false, "inner" }, { ok, err })
      tx:push(mails, "after")
    end)
    assert.same({ "outer", "after" }, payloads(mails))
    assert.is_nil(inner.id)
    assert.equal(1, orders:stats().done)
    sound()
  end)

  it("undoes its parent when the error is not caught", function()
    pcall(store.transaction, store, function(tx)
      tx:push(mails, "outer")
      store:transaction(function() error "inner" end)
    end)
    assert.equal(0, mails:length().total)
  end)

  it("is another one in another coroutine", function()
    store:transaction(function(tx)
      coroutine.wrap(function()
        store:transaction(function(other)
          assert.not_equal(tx, other)
          other:push(orders, "o")
        end)
      end)()
      assert.equal(1, orders:length().total)
    end)
  end)

  it("may yield within", function()
    local co = coroutine.wrap(function()
      return store:transaction(function(tx)
        tx:push(orders, coroutine.yield())
        return "end"
      end)
    end)
    co()
    assert.equal(0, orders:length().total)
    assert.equal("end", co("o"))
    assert.same({ "o" }, payloads(orders))
  end)

  it("of another store is by itself", function()
    local other = helper.store()
    local q = other:queue "q"
    pcall(store.transaction, store, function()
      other:transaction(function(tx) tx:push(q, 1) end)
      error "outer"
    end)
    assert.equal(1, q:length().total)
  end)
end)

describe("a transaction by hand", function()
  it("happens at its commit", function()
    local tx = assert(store:begin())
    local pushed = tx:push(orders, "o")
    assert.equal(0, orders:length().total)
    assert.is_true(tx:commit())
    assert.equal(1, pushed.id)
    assert.equal(1, orders:length().total)
  end)

  it("is forgotten by rollback, by closing and by the collector", function()
    local tx = store:begin()
    tx:push(orders, "o")
    assert.is_true(tx:rollback())
    tx = store:begin()
    tx:push(orders, "o")
    getmetatable(tx).__close(tx)
    tx = store:begin()
    tx:push(orders, "o")
    tx = nil -- luacheck: ignore
    collectgarbage()
    assert.equal(0, orders:length().total)
  end)

  it("cannot be used once it has ended", function()
    local tx = store:begin()
    tx:commit()
    for _, use in ipairs {
      function() tx:push(orders, 1) end, function() tx:commit() end,
      function() tx:rollback() end, function() tx:remove(orders.dead, 1) end,
    } do
      assert.error_matches(use, "attempt to use a closed transaction")
    end
    assert.equal("respool transaction (closed)", tostring(tx))
  end)

  it("may be committed again when it could not be", function()
    local small = store:queue("small", { max_items = 1 })
    small:push(1)
    orders:push("o")
    local item = orders:take():item(1)
    item:push(mails, "m")
    local tx = store:begin()
    tx:push(small, 2)
    tx:done(item)
    assert.equal("FULL", select(3, tx:commit()))
    assert.equal("FULL", select(3, tx:commit()))
    small:purge()
    assert.is_true(tx:commit())
    assert.same({ "m" }, payloads(mails))
    sound()
  end)

  it("ends with the store", function()
    local tx = store:begin()
    store:close()
    assert.error_matches(function() tx:commit() end,
                         "attempt to use a closed transaction")
  end)
end)

describe("misuse of a transaction", function()
  local function refuses(pattern, fn)
    assert.error_matches(function() store:transaction(fn) end, pattern)
    assert.equal(0, orders:length().total)
  end

  it("raises", function()
    local other = helper.store()
    local q = other:queue "q"
    q:push(1)
    local foreign = q:take():item(1)
    assert.error_matches(function() store:transaction(1) end,
                         "bad argument #1 to 'transaction' %(a function")
    refuses("bad argument #1 to 'push' %(a queue expected",
            function(tx) tx:push("orders", 1) end)
    refuses("is of another store", function(tx) tx:push(q, 1) end)
    refuses("the item is of another store", function(tx) tx:done(foreign) end)
    refuses("the dead letter is of another store",
            function(tx) tx:remove(q.dead, 1) end)
    refuses("bad argument #1 to 'done' %(an item of a batch expected",
            function(tx) tx:done {} end)
    refuses("bad argument #1 to 'replay' %(dead letters",
            function(tx) tx:replay("orders", 1) end)
    refuses("bad argument #2 to 'replay'",
            function(tx) tx:replay(orders.dead, 0) end)
    refuses("unknown option 'too'",
            function(tx) tx:replay(orders.dead, 1, { too = orders }) end)
    refuses("list of payloads", function(tx) tx:push_many(orders, {}) end)
    refuses("takes no 'timeout'",
            function(tx) tx:push(orders, 1, { timeout = 1 }) end)
    refuses("commit: it ends with its function",
            function(tx) tx:commit() end)
    refuses("rollback: it ends with its function",
            function(tx) tx:rollback() end)
  end)

  it("raises for a payload that is too large", function()
    local small = helper.store { max_item_bytes = 100 }
    local q = small:queue "q"
    assert.error_matches(function()
      small:transaction(function(tx) tx:push(q, ("x"):rep(200)) end)
    end, "an item of 202 bytes is over max_item_bytes")
    assert.equal(0, q:length().total)
  end)
end)
