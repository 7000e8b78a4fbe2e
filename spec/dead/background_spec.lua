-- SPDX-License-Identifier: MIT

local helper = require "spec.helper"
local respool = require "respool"
local background = require "respool.replay.background"

local store, q, errors
local empty = { stop_when_empty = true }

before_each(function()
  errors = {}
  store = helper.store { on_error = function(e)
    table.insert(errors, e.message)
  end }
  q = assert(store:queue("orders", { max_attempts = 1 }))
end)

-- Makes this many dead letters, of payloads 1 to n.
local function die(n)
  local list = {}
  for i = 1, n do list[i] = i end
  q:push_many(list)
  q:work(function() return respool.dead() end, { limit = n })
end

-- Collects what it is told.
local function told()
  local list = {}
  return list, function(counts, message, code)
    table.insert(list, {
      seen = counts.seen, moved = counts.moved, state = counts.state,
      message = message, code = code,
    })
  end
end

describe("dead:replay_every", function()
  it("replays within work, at once and at its interval", function()
    die(2)
    local list, hook = told()
    q.dead:replay_every { interval = 60, on_finish = hook }
    local before, at = store:now(), {}
    q:work(function()
      table.insert(at, store:now() - before)
      if #at == 2 then return respool.dead() end
    end, { timeout = 200 })
    assert.same({
      { seen = 2, moved = 2, state = "finished" },
      { seen = 1, moved = 1, state = "finished" },
    }, list)
    assert.equal(0, q.dead:count())
    assert.near(0, at[2], 0.1)
    assert.near(60, at[3], 0.1)
  end)

  -- Work that does not wait returned before it looked.
  it("replays within work that does not wait for items", function()
    die(2)
    q.dead:replay_every { interval = 60 }
    local other = store:queue "other"
    assert.equal(0, other:work(error, { timeout = 0 }).items)
    assert.equal(2, q:length().ready)
  end)

  it("replays within store:maintain", function()
    die(3)
    q.dead:replay_every { interval = 10 }
    store:maintain()
    assert.equal(3, q:length().ready)
  end)

  it("moves a page at a time", function()
    die(250)
    q.dead:replay_every { interval = 10 }
    background.tick(store)
    assert.equal(100, q:length().ready)
    background.tick(store)
    background.tick(store)
    assert.equal(250, q:length().ready)
    assert.equal(0, background.wait(store)) -- to see that this was all
    background.tick(store)
    assert.near(10, background.wait(store), 0.1)
  end)

  it("goes on while work is busy", function()
    die(150)
    local other = store:queue "other"
    q.dead:replay_every { interval = 10 }
    other:push_many { 1, 2, 3 }
    other:work(function() end, { batch = 1, limit = 3 })
    assert.equal(150, q:length().ready)
  end)

  it("keeps the work from being empty while it finds dead letters", function()
    die(250)
    q.dead:replay_every { interval = 10 }
    assert.equal(250, q:work(function() end, empty).done)
  end)

  it("keeps to its rate without sleeping", function()
    die(30)
    local before = store:now()
    q.dead:replay_every { interval = 10, rate = 10 }
    store:maintain()
    assert.equal(10, q:length().ready)
    assert.equal(before, store:now())
    store:advance(100) -- is not made up for
    store:maintain()
    assert.equal(20, q:length().ready)
    store:advance(1)
    store:maintain()
    assert.equal(30, q:length().ready)
  end)

  it("pauses while its target is too full", function()
    local target = store:queue("target", { max_items = 300 })
    die(250)
    q.dead:replay_every { interval = 10, to = target, while_below = 0.5 }
    for _ = 1, 5 do
      store:maintain()
      store:advance(2)
    end
    assert.equal(200, target:length().ready)
    target:work(function() end, { limit = 100 })
    store:advance(2)
    store:maintain()
    assert.equal(150, target:length().ready)
  end)

  it("looks at its own queue when no other is named", function()
    q = store:queue("orders", { max_items = 4 })
    die(4)
    q:push_many { 5, 6 }
    q.dead:replay_every { interval = 10, while_below = 0.5 }
    store:maintain()
    assert.equal(4, q.dead:count())
  end)

  it("takes the options of a replay", function()
    die(3)
    local target = store:queue "target"
    q.dead:replay_every {
      interval = 10, to = target, name = "nightly",
      where = function(dead_letter) return dead_letter.payload > 1 end,
      transform = function(n) return n * 10 end,
    }
    store:maintain()
    assert.equal(20, target:peek()[1].payload)
    assert.same({ "finished", 2, 1 }, {
      store:replay("nightly").state, store:replay("nightly").moved,
      store:replay("nightly").skipped,
    })
  end)

  it("stops", function()
    die(150)
    local replay = q.dead:replay_every { interval = 10, name = "j" }
    background.tick(store)
    assert.is_true(replay:stop())
    store:advance(100)
    store:maintain()
    assert.equal(50, q.dead:count())
    assert.equal("stopped", store:replay("j").state)
    assert.is_true(replay:stop())
  end)

  it("tells an error, and tries again after the interval", function()
    local target = store:queue("target", { max_items = 0 })
    die(2)
    local list, hook = told()
    q.dead:replay_every { interval = 10, to = target, on_finish = hook }
    store:maintain()
    assert.equal("FULL", list[1].code)
    assert.equal(list[1].message, errors[1])
    store:maintain()
    assert.equal(1, #list)
    target = store:queue("target", { max_items = 10 })
    store:advance(10)
    store:maintain()
    assert.same({ seen = 2, moved = 2, state = "finished" }, list[2])
    assert.equal(2, target:length().ready)
  end)

  it("survives hooks that raise", function()
    die(1)
    local calls = 0
    q.dead:replay_every { interval = 10, on_finish = function()
      calls = calls + 1
      error "oops"
    end }
    store:maintain()
    assert.equal(1, calls)
    assert.matches("oops", errors[1])
    assert.equal(1, q:work(function() end, empty).done)
  end)

  it("ends with the store, also when a hook closes it", function()
    die(1)
    q.dead:replay_every { interval = 10, on_finish = function()
      store:close()
    end }
    assert(q:work(function() end, { timeout = 100 }))
    assert.error_matches(function() q:push(1) end, "closed")
  end)

  it("refuses bad options", function()
    local function refuses(o, pattern)
      assert.error_matches(function() q.dead:replay_every(o) end, pattern)
    end
    refuses({}, "option 'interval' is missing")
    refuses({ interval = 0 }, "'interval' must be seconds or a time")
    refuses({ interval = 1, while_below = 2 }, "'while_below' must be a share")
    refuses({ interval = 1, wherever = print }, "unknown option 'wherever'")
    refuses({ interval = 1, name = "j", order = "newest" },
            "a named replay goes from")
    assert.error_matches(function()
      store:dead("dlq"):replay_every { interval = 1, while_below = 0.5 }
    end, "needs a queue")
    assert.is_nil(next(store.background))
  end)
end)

describe("a replay's on_finish", function()
  it("is told at the end", function()
    die(3)
    local list, hook = told()
    q.dead:replay { limit = 2, on_finish = hook }
    q.dead:replay { on_finish = hook }
    assert.same({
      { seen = 2, moved = 2, state = "stopped" },
      { seen = 1, moved = 1, state = "finished" },
    }, list)
  end)

  it("is told of the error that was the end", function()
    die(2)
    local list, hook = told()
    local _, _, code = q.dead:replay {
      to = store:queue("small", { max_items = 1 }), on_finish = hook,
    }
    assert.equal("FULL", code)
    assert.equal("FULL", list[1].code)
  end)
end)
