-- SPDX-License-Identifier: MIT
--
-- Bounds (A8, A9, A11): what becomes of a push beyond max_items or
-- max_queue_bytes, and how full a queue says it is.

local helper = require "spec.helper"

local store, q

local function queue(options)
  q = assert(store:queue("orders", options))
  return q
end

local function push(...)
  for _, payload in ipairs { ... } do assert(q:push(payload)) end
end

local function payloads()
  local list = {}
  for _, item in ipairs(assert(q:peek(100))) do
    list[#list + 1] = item.payload
  end
  return table.concat(list)
end

before_each(function() store = helper.store() end)

-- Whatever a spec did, the store finds nothing wrong with itself, and every
-- item is accounted for.
local plain_it = it
local function it(title, body)
  plain_it(title, function()
    body()
    assert.same({}, store:check())
    local s = q:stats()
    assert.equal(s.pushed, s.ready + s.leased + s.waiting + s.done + s.died
                 + s.expired + s.removed)
  end)
end

describe("a queue that rejects", function()
  it("refuses a push beyond max_items", function()
    queue { max_items = 2 }
    push("a", "b")
    local id, message, code = q:push "c"
    assert.is_nil(id)
    assert.equal('queue "orders" is full: max_items is 2', message)
    assert.equal("FULL", code)
    assert.equal("ab", payloads())
  end)

  it("refuses a push beyond max_queue_bytes", function()
    queue { max_queue_bytes = 100 }
    push "a"
    local id, message, code = q:push(("x"):rep(100))
    assert.is_nil(id)
    assert.matches("max_queue_bytes is 100", message)
    assert.equal("FULL", code)
  end)

  it("takes a list whole or not at all", function()
    queue { max_items = 3 }
    push "a"
    local _, _, code = q:push_many { "b", "c", "d" }
    assert.equal("FULL", code)
    assert.equal("a", payloads())
    assert(q:push_many { "b", "c" })
  end)

  it("counts what is leased and what waits", function()
    queue { max_items = 2 }
    assert(q:push("a", { delay = 60 }))
    push "b"
    local lot = assert(q:take())
    local _, _, code = q:push "c"
    assert.equal("FULL", code)
    lot:done()
    assert(lot:settle())
    push "c"
  end)

  it("holds nothing when it may hold nothing", function()
    queue { max_items = 0 }
    local _, _, code = q:push "a"
    assert.equal("FULL", code)
  end)

  it("lets a push wait until its time is over", function()
    queue { max_items = 1 }
    push "a"
    local id, message, code = q:push("b", { wait = 5 })
    assert.is_nil(id)
    assert.equal('queue "orders" had no room in time', message)
    assert.equal("TIMEOUT", code)
  end)
end)

describe("a queue that drops its oldest", function()
  it("makes room for what is new", function()
    queue { max_items = 3, overflow = "drop_oldest" }
    push("a", "b", "c", "d", "e")
    assert.equal("cde", payloads())
    assert.equal(2, q:stats().dropped)
    assert.equal(2, q:stats().removed)
  end)

  it("drops by age, whatever the priority", function()
    queue { max_items = 3, overflow = "drop_oldest" }
    assert(q:push("a", { priority = 9 }))
    push("b", "c", "d")
    assert.equal("bcd", payloads())
  end)

  it("makes room for bytes", function()
    queue { max_queue_bytes = 400, overflow = "drop_oldest" }
    for i = 1, 20 do assert(q:push(("%d"):format(i % 10) .. ("x"):rep(99))) end
    local stats = q:stats()
    assert.is_true(stats.bytes <= 400)
    assert.is_true(stats.ready >= 2)
    assert.equal("0", q:peek(9)[stats.ready].payload:sub(1, 1))
  end)

  it("drops as many as a list needs", function()
    queue { max_items = 4, overflow = "drop_oldest" }
    push("a", "b", "c", "d")
    assert(q:push_many { "e", "f", "g" })
    assert.equal("defg", payloads())
  end)

  it("drops nothing that is leased or waits", function()
    queue { max_items = 2, overflow = "drop_oldest" }
    assert(q:push("a", { delay = 60 }))
    push "b"
    local lot = assert(q:take())
    local _, _, code = q:push "c"
    assert.equal("FULL", code)
    lot:release()
    assert(lot:settle())
    assert.equal(2, q:length().total)
  end)

  it("refuses a list that could never fit", function()
    queue { max_items = 2, overflow = "drop_oldest" }
    push("a", "b")
    local _, _, code = q:push_many { "c", "d", "e" }
    assert.equal("FULL", code)
    assert.equal("ab", payloads())
  end)
end)

describe("a queue that buries what is too much", function()
  it("makes letters of it, for the reason overflow", function()
    queue { max_items = 2, overflow = "dead" }
    push("a", "b")
    assert.equal(3, q:push "c")
    assert.equal("ab", payloads())
    local letter = q.dead:oldest()
    assert.equal("overflow", letter.reason)
    assert.equal("c", letter.payload)
    assert.equal(3, letter.id)
    assert.equal(1, q:stats().died_by.overflow)
  end)

  it("buries lists whole, with their headers and priority", function()
    queue { max_items = 2, overflow = "dead" }
    push "a"
    assert(q:push_many({ "b", "c" }, { priority = 7, headers = { n = 1 } }))
    assert.equal("a", payloads())
    assert.equal(2, q.dead:count())
    assert.equal(7, q.dead:oldest().priority)
    assert.same({ n = 1 }, q.dead:oldest().headers)
  end)

  it("gets them back by replay", function()
    queue { max_items = 1, overflow = "dead" }
    push("a", "b")
    assert(assert(q:take()):close())
    assert(q:purge())
    assert.equal(1, q.dead:replay().moved)
    assert.equal("b", payloads())
  end)
end)

describe("a queue that lets pushes wait", function()
  it("says when there was no room in time", function()
    queue { max_items = 1, overflow = "wait" }
    push "a"
    local _, _, code = q:push("b", { wait = 5 })
    assert.equal("TIMEOUT", code)
    _, _, code = q:push "b" -- on a manual clock nobody can make room
    assert.equal("TIMEOUT", code)
  end)

  it("does not wait when told so", function()
    queue { max_items = 1, overflow = "wait" }
    push "a"
    local _, _, code = q:push("b", { wait = 0 })
    assert.equal("FULL", code)
    _, _, code = q:push_many({ "b" }, { wait = 0 })
    assert.equal("FULL", code)
  end)

  it("goes on when a consumer makes room", function()
    local location = helper.location()
    store = assert(helper.open(location, { sync = "relaxed" }))
    queue { max_items = 3, overflow = "wait" }
    local process = helper.spawn([[
      local respool = require "respool"
      local store = assert(respool.open(arg[1], { sync = "relaxed" }))
      local n = 0
      assert(store:queue("orders"):work(function() n = n + 1 end,
                                        { lot = 2, max = 50, deadline = 30 }))
      io.write(n)
    ]], location)
    for i = 1, 50 do assert(q:push(i, { wait = 30 })) end
    assert.equal(0, process:wait())
    assert.equal("50", process:output())
  end)

  it("is over in time on a real clock too", function()
    store = assert(helper.open(helper.location(), { sync = "relaxed" }))
    queue { max_items = 1 }
    push "a"
    local _, _, code = q:push("b", { wait = 0.02 })
    assert.equal("TIMEOUT", code)
  end)
end)

describe("a push in a settle", function()
  it("cannot wait", function()
    queue()
    push "a"
    local lot = assert(q:take())
    assert.error_matches(function()
      lot:settle { push = { { queue = q, payload = "b", wait = 5 } } }
    end, "cannot 'wait'")
    lot:close()
  end)
end)

describe("a queue's stats", function()
  it("tell how full it is, by the greater measure", function()
    queue { max_items = 10 }
    assert.equal(0, q:stats().fill)
    push("a", "b", "c")
    assert.equal(0.3, q:stats().fill)
    queue { max_queue_bytes = 2 * q:stats().bytes }
    assert.equal(0.5, q:stats().fill)
    assert(q:purge())
    assert.equal(0, q:stats().fill)
  end)

  it("tell of no fill without a bound", function()
    assert.is_nil(queue():stats().fill)
  end)

  it("tell how old the oldest item is", function()
    queue()
    assert.equal(0, q:stats().oldest_age)
    push "a"
    store:advance(5)
    push "b"
    store:advance(2)
    assert.near(7, q:stats().oldest_age, 1e-6)
    assert.equal(1, #assert(q:take()))
    assert.near(2, q:stats().oldest_age, 1e-6)
  end)
end)
