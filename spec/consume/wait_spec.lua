-- SPDX-License-Identifier: MIT
--
-- Waiting by the real clock: what ends it, and that nothing is done meanwhile.
-- Whether something came is seen by what the wait returns, as one that runs to
-- its end returns nothing; no bound is put on how long it took.

local core = require "respool.core"
local helper = require "spec.helper"

local LONG = 60

local store, q

before_each(function()
  store = assert(helper.open(helper.location()))
  q = assert(store:queue "orders")
end)

-- Another process that does something to the queue a little later, when
-- this one waits already.
local function soon(action)
  helper.spawn(([[
    local store = assert(require "respool".open(arg[1]))
    local q = assert(store:queue "orders")
    q:take { timeout = 0.25 }
    %s
  ]]):format(action), store.path)
end

-- That a time has come by the store's clock, which is cut to milliseconds.
local function assert_is_past(time)
  assert.is_true(store:now() >= time - 0.0015)
end

-- How often `wait` calls the core for a take.
local function takes(wait)
  local methods, n = getmetatable(q.handle).__index, 0
  local take = methods.take
  methods.take = function(...)
    n = n + 1
    return take(...)
  end
  finally(function() methods.take = take end)
  wait()
  return n
end

describe("a take that waits", function()
  it("wakes on a push from another process", function()
    soon [[ q:push "news" ]]
    local batch = assert(q:take { timeout = LONG })
    assert.equal("news", batch:item(1).payload)
  end)

  it("wakes when an item is due", function()
    q:push("later", { delay = 0.3 })
    local batch = assert(q:take { timeout = LONG })
    assert.equal(1, #batch)
    assert_is_past(batch:item(1).pushed_at + 0.3)
  end)

  it("wakes when a lease runs out", function()
    q:push "a"
    local ends = store:now() + 0.3
    q:take { lease = 0.3 }
    local batch = assert(q:take { timeout = LONG })
    assert.equal(1, batch:item(1).crashes)
    assert_is_past(ends)
  end)

  it("gives up when its time is over", function()
    local ends = core.mono() + 0.3e6
    assert.equal(0, #q:take { timeout = 0.3 })
    assert.is_true(core.mono() >= ends)
  end)

  it("calls the core twenty times a second while idle", function()
    local n = takes(function() assert.equal(0, #q:take { timeout = 1 }) end)
    assert.is_true(n > 0 and n <= 21, n)
  end)
end)

describe("work", function()
  it("wakes on a push from another process", function()
    soon [[ q:push "news" ]]
    local seen
    q:work(function(payload) seen = payload end, { limit = 1, seconds = LONG })
    assert.equal("news", seen)
  end)

  it("wakes when an item is due", function()
    q:push("later", { delay = 0.3 })
    local pushed_at
    q:work(function(_, item) pushed_at = item.pushed_at end,
           { limit = 1, seconds = LONG })
    assert_is_past(pushed_at + 0.3)
  end)

  -- The first renewal comes after a third of the lease.
  it("keeps the lease of a handler that takes longer", function()
    q = store:queue("orders", { lease = 6 })
    q:push "slow"
    local counts = q:work(function(_, item)
      local first = q:get(item.id).visible_at
      repeat helper.pause(0.1) until q:get(item.id).visible_at > first
      assert.equal(0, #q:take())
    end, { limit = 1 })
    assert.same({ 1, 0 }, { counts.done, counts.lost })
    assert.equal(0, q:stats().crashed)
  end)

  it("calls the core twenty times a second while idle", function()
    local n = takes(function() q:work(function() end, { timeout = 1 }) end)
    assert.is_true(n > 0 and n <= 22, n)
  end)
end)
