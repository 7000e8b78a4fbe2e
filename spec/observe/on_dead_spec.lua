-- SPDX-License-Identifier: MIT
--
-- on_dead hears of dead letters that no handle of their queue has made.

local helper = require "spec.helper"
local respool = require "respool"

local store, died

before_each(function()
  store, died = helper.store(), {}
end)

local function queue(name, options)
  options.on_dead = function(death)
    table.insert(died, ("%s %s %s"):format(name, death.item.queue,
                                           death.reason))
  end
  return assert(store:queue(name, options))
end

describe("on_dead", function()
  -- Items that nobody takes expired without a word.
  it("is told of what maintenance buries", function()
    local q = queue("orders", { ttl = 10 })
    queue("mails", {})
    q:push_many { 1, 2 }
    store:advance(11)
    assert(store:maintain())
    assert.same({ "orders orders expired", "orders orders expired" }, died)
  end)

  it("is told of what a replay cannot place", function()
    local q = assert(store:queue "orders")
    local full = queue("full", { max_items = 1, overflow = "dead" })
    full:push(0)
    q:push_many { 1, 2 }
    q:work(function() return respool.dead() end, { limit = 2 })
    assert.equal(1, q.dead:replay { to = full, limit = 1 }.moved)
    assert.same({ "full full overflow" }, died)
    assert(q.dead:retry(q.dead:oldest().number, { to = full }))
    assert.equal(2, #died)
    assert.same({}, store:check())
  end)
end)
