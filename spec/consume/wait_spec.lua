-- SPDX-License-Identifier: MIT
--
-- Waiting by the real clock: what ends it, and what it costs. Bounds are
-- generous for slow machines; each tells waking from waiting to the end.

local helper = require "spec.helper"

local LONG = 20

local store, q

before_each(function()
  store = assert(helper.open(helper.location()))
  q = assert(store:queue("orders", { lease = 0.3 }))
end)

-- What f returns, and how many seconds it took.
local function timed(f)
  local began = store:now()
  local result = f()
  return result, store:now() - began
end

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

describe("a take that waits", function()
  it("wakes on a push from another process", function()
    soon [[ q:push "news" ]]
    local batch, waited = timed(function() return q:take { timeout = LONG } end)
    assert.equal("news", batch:item(1).payload)
    assert.is_true(waited < LONG / 2)
    assert.is_true(store:now() - batch:item(1).pushed_at < 1)
  end)

  it("wakes when an item is due", function()
    q:push("later", { delay = 0.3 })
    local batch, waited = timed(function() return q:take { timeout = LONG } end)
    assert.equal(1, #batch)
    assert.is_true(waited > 0.25 and waited < 1.3)
  end)

  it("wakes when a lease runs out", function()
    q:push "a"
    q:take()
    local batch, waited = timed(function() return q:take { timeout = LONG } end)
    assert.equal(1, batch:item(1).crashes)
    assert.is_true(waited > 0.25 and waited < 1.3)
  end)

  it("gives up when its time is over", function()
    local batch, waited = timed(function() return q:take { timeout = 0.3 } end)
    assert.equal(0, #batch)
    assert.is_true(waited > 0.29 and waited < 1.3)
  end)

  it("costs no CPU while idle", function()
    local before = os.clock()
    assert.equal(0, #q:take { timeout = 1 })
    assert.is_true(os.clock() - before < 0.1)
  end)
end)

describe("work", function()
  it("wakes on a push from another process", function()
    soon [[ q:push "news" ]]
    local seen
    local _, waited = timed(function()
      q:work(function(payload, item)
        seen = { payload, store:now() - item.pushed_at < 1 }
      end, { limit = 1, seconds = LONG })
    end)
    assert.same({ "news", true }, seen)
    assert.is_true(waited < LONG / 2)
  end)

  it("wakes when an item is due", function()
    q:push("later", { delay = 0.3 })
    local _, waited = timed(function()
      q:work(function() end, { limit = 1, seconds = LONG })
    end)
    assert.is_true(waited > 0.25 and waited < 1.3)
  end)

  it("keeps the lease of a handler that takes longer", function()
    q:push "slow"
    local counts = q:work(function()
      local from = store:now()
      repeat assert.equal(0, #q:take()) until store:now() - from > 0.7
    end, { limit = 1 })
    assert.same({ 1, 0 }, { counts.done, counts.lost })
    assert.equal(0, q:stats().crashed)
  end)

  it("costs no CPU while idle", function()
    local before = os.clock()
    q:work(function() end, { timeout = 1 })
    assert.is_true(os.clock() - before < 0.1)
  end)
end)
