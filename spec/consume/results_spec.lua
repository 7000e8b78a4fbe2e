-- SPDX-License-Identifier: MIT
--
-- Results of finished items, kept and awaited.

local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local respool = require "respool"
local code = helper.code

local t

before_each(function()
  t = queue_of.new { keep_done = "1h", max_attempts = 1 }
end)

local it = helper.checked(it)

local function work(handler, options)
  local all = { stop_when_empty = true, batch = 10 }
  for name, value in pairs(options or {}) do all[name] = value end
  return assert(t.q:work(handler, all))
end

-- How an item ended, by await: its code and message, or its result.
local function outcome(id)
  local value, message, what = t.q:await(id, { timeout = 0 })
  if value ~= nil then return value end
  return what .. ": " .. message
end

describe("a result", function()
  it("is what the handler returned", function()
    local first = assert(t.q:push_many { 1, 2, 3 })
    assert.equal("NOT_FOUND", code(t.q:result(first)))
    work(function(n) return { square = n * n } end)
    for n = 1, 3 do
      assert.same({ square = n * n }, t.q:result(first + n - 1))
    end
    assert.equal(3, t.q:stats().done)
    assert.equal(3, t.q.history:count())
  end)

  it("is true where the handler returned nothing", function()
    local first = assert(t.q:push_many { 1, 2 })
    work(function(n) if n == 2 then return true end end)
    assert.is_true(t.q:result(first))
    assert.is_true(t.q:result(first + 1))
  end)

  it("is given by item:done, the last word", function()
    local first = assert(t.q:push_many { 1, 2, 3 })
    local batch = assert(t.q:take { limit = 3 })
    batch[1]:done "first"
    batch[1]:done "last"
    batch[2]:done(0)
    batch[3]:done "no"
    batch[3]:done()
    assert(batch:settle())
    assert.equal("last", t.q:result(first))
    assert.equal(0, t.q:result(first + 1))
    assert.is_true(t.q:result(first + 2))
  end)

  it("is kept of items that are settled apart", function()
    local first = assert(t.q:push_many { 1, 2, 3, 4 })
    local batch = assert(t.q:take { limit = 4 })
    batch[3]:done "c"
    assert(batch:settle())
    batch[1]:done "a"
    batch[2]:retry { delay = 0 }
    batch[4]:done "d"
    assert(batch:settle())
    for i, expected in ipairs { "a", "NOT_FOUND", "c", "d" } do
      local value, _, what = t.q:result(first + i - 1)
      assert.equal(expected, value or what)
    end
  end)

  it("is not kept of an outcome that was refused", function()
    local id = assert(t.q:push(1))
    local batch = assert(t.q:take())
    batch[1]:done "late"
    assert.is_true(t.q:cancel(id))
    assert.equal("LEASE_LOST", code(batch:settle()))
    assert.equal("NOT_FOUND", code(t.q:result(id)))
  end)

  it("is that of the delivery that was in time", function()
    local id = assert(t.q:push(1))
    local old = assert(t.q:take())
    t.store:advance(3600)
    local new = assert(t.q:take())
    new[1]:done "new"
    assert(new:settle())
    old[1]:done "old"
    assert.equal("LEASE_LOST", code(old:settle()))
    assert.equal("new", t.q:result(id))
  end)

  it("of a batch is where its item is in the list that was returned", function()
    local first = assert(t.q:push_many { 1, 2, 3, 4 })
    assert(t.q:work_batches(function(batch)
      batch[2]:done "by hand"
      batch[3]:release()
      return { "a", "b", "c" }
    end, { batch = 4, limit = 4 }))
    for i, expected in ipairs { "a", "by hand", "NOT_FOUND", true } do
      local value, _, what = t.q:result(first + i - 1)
      assert.equal(expected, value or what)
    end
  end)

  it("of a batch is none where no list was returned; that is logged", function()
    local said = {}
    t.store.log = function(_, message) said[#said + 1] = message end
    for _, returned in ipairs { { n = 2 }, { [3] = 1 }, { 1, [1.5] = 2 }, 7,
                                true } do
      local first = assert(t.q:push_many { 1, 2 })
      assert(t.q:work_batches(function() return returned end,
                              { batch = 2, limit = 2 }))
      assert.is_true(t.q:result(first))
    end
    assert.same(4, #said)
    assert.equal("the results of a batch are not kept", said[1])
  end)

  it("is that of all items that were merged", function()
    t:queue { keep_done = "1h" }
    local first = assert(t.q:push_many { "a", "b", "a", "a" })
    local merge = { key = function(payload) return payload end,
                    with = function(old) return old end }
    work(function(payload) return payload .. "!" end,
         { merge = merge, batch = 4 })
    for i, expected in ipairs { "a!", "b!", "a!", "a!" } do
      assert.equal(expected, t.q:result(first + i - 1))
    end
  end)

  it("goes with the finished item", function()
    local first = assert(t.q:push_many { 1, 2 })
    work(function(n) return n end, { limit = 1, batch = 1 })
    t.store:advance(1800)
    work(function(n) return n end)
    t.store:advance(1801)
    assert(t.store:maintain())
    assert.equal("NOT_FOUND", code(t.q:result(first)))
    assert.equal(2, t.q:result(first + 1))
    t.store:advance(1800)
    assert(t.store:maintain())
    assert.equal("NOT_FOUND", code(t.q:result(first + 1)))
    assert.equal(0, t.q.history:count())
  end)

  it("goes with its queue", function()
    local id = assert(t.q:push(1))
    work(function() return "x" end)
    assert(t.store:drop_queue "orders")
    t:queue()
    assert.equal("NOT_FOUND", code(t.q:result(id)))
  end)

  -- Names of entries have room for a part of such names.
  it("is that of its queue, also where long names begin alike", function()
    local all = {}
    for n = 1, 2 do
      local q = assert(t.store:queue(("n"):rep(240) .. n, { keep_done = 60 }))
      local id = assert(q:push "x")
      local batch = assert(q:take())
      batch:item(1):done(n)
      assert(batch:settle())
      all[n] = { q = q, id = id }
    end
    for n = 1, 2 do assert.equal(n, all[n].q:result(all[n].id)) end
  end)

  it("that is too large, or no value, is not kept; the item is done", function()
    local said = {}
    t.store.log = function(_, message, fields)
      said[#said + 1] = message .. ": " .. tostring(fields.problem)
    end
    local first = assert(t.q:push_many { 1, 2, 3 })
    local counts = work(function(n)
      if n == 1 then return ("x"):rep(20000) end
      return n == 2 and print or ("x"):rep(16000)
    end)
    assert.equal(3, counts.done)
    assert.is_true(t.q:result(first))
    assert.is_true(t.q:result(first + 1))
    assert.equal(16000, #t.q:result(first + 2))
  end)

  it("of item:done that is too large raises", function()
    assert(t.q:push(1))
    local batch = assert(t.q:take())
    assert.error_matches(function() batch[1]:done(("x"):rep(20000)) end,
                         "item:done: the result: it has %d+ bytes, over 16384")
    batch:close()
  end)

  it("is not kept by a queue that keeps no finished items", function()
    t:queue { keep_done = 0 }
    local id = assert(t.q:push(1))
    work(function() return "x" end)
    assert.equal("NOT_FOUND", code(t.q:result(id)))
    assert.error_matches(function() return t.q:await(id) end,
                         "queue 'orders' keeps no finished items")
  end)
end)

describe("the result of a fan-out", function()
  local fails

  local function handler(more)
    local list = {
      mail = function(n) return { sent = n } end,
      crm = function()
        if fails > 0 then
          fails = fails - 1
          error "away"
        end
        return 7
      end,
      log = function() end,
    }
    for name, fn in pairs(more or {}) do list[name] = fn end
    return respool.fan_out(list)
  end

  before_each(function()
    fails = 0
    t:queue { keep_done = "1h", max_attempts = 3,
              retry = respool.backoff.constant { delay = 0 } }
  end)

  it("has what its handlers returned, by name", function()
    local id = assert(t.q:push(5))
    work(handler())
    assert.same({ mail = { sent = 5 }, crm = 7 }, t.q:result(id))
  end)

  it("is true where none returned anything", function()
    local id = assert(t.q:push(5))
    work(respool.fan_out { function() end, function() return true end })
    assert.is_true(t.q:result(id))
  end)

  it("has what was returned in earlier deliveries", function()
    local id = assert(t.q:push(5))
    fails = 2
    work(handler { inner = respool.fan_out {
      a = function() return "deep" end,
      b = function() if fails > 0 then error "no" end end,
    } })
    assert.same({ mail = { sent = 5 }, crm = 7, inner = { a = "deep" } },
                t.q:result(id))
    assert.equal(1, t.q:stats().done)
  end)

  it("lacks what had no room beside others; that is logged", function()
    local said = {}
    t.store.log = function(_, message, fields)
      said[#said + 1] = tostring(fields.problem or message)
    end
    local id = assert(t.q:push(5))
    fails = 1
    work(handler { big = function() return ("x"):rep(3000) end })
    assert.same({ mail = { sent = 5 }, crm = 7 }, t.q:result(id))
    assert.matches("of handler big: it has no room",
                   table.concat(said, "\n"))
  end)

  it("is not remembered by a queue that keeps none", function()
    t:queue { keep_done = 0 }
    local id = assert(t.q:push(5))
    fails = 1
    work(handler(), { limit = 1 })
    assert.not_matches("sent", t.q:get(id).memo)
  end)
end)

describe("queue:await", function()
  it("returns the result, and nothing behind it", function()
    local id = assert(t.q:push(1))
    work(function() return "x" end)
    assert.same({ "x", n = 1 }, { n = select("#", t.q:await(id)),
                                  (t.q:await(id)) })
  end)

  it("says how an item ended that has no result", function()
    local first = assert(t.q:push_many { 1, 2, 3, 4 })
    work(function(n)
      if n == 1 then error "boom" end
      if n == 2 then return respool.drop() end
      return respool.dead { dlq = "elsewhere", error = "odd" }
    end, { limit = 3 })
    assert.is_true(t.q:cancel(first + 3))
    assert.matches("^DEAD: item 1 of queue 'orders' died, exhausted: .*boom",
                   (outcome(first):gsub("item %d+", "item 1")))
    assert.matches("^NOT_FOUND: item %d+ of queue 'orders' is over without",
                   outcome(first + 1))
    assert.matches("^DEAD: .* died, rejected: odd", outcome(first + 2))
    assert.matches("^NOT_FOUND", outcome(first + 3))
    local dead = select(4, t.q:await(first))
    assert.same({ first, 1, "exhausted" },
                { dead.id, dead.payload, dead.reason })
  end)

  it("ends after its timeout, which moves a manual clock", function()
    local id = assert(t.q:push(1))
    local now = t.store:now()
    local value, message, what = t.q:await(id, { timeout = "1h" })
    assert.equal(now + 3600, t.store:now())
    assert.is_nil(value)
    assert.equal("TIMEOUT", what)
    assert.matches("item %d+ of queue 'orders' is not over yet", message)
  end)

  it("without an end ends at once where a manual clock stands", function()
    local id = assert(t.q:push(1))
    assert.equal("TIMEOUT", code(t.q:await(id)))
  end)

  it("waits for another process", function()
    local store = assert(helper.open(helper.location()))
    local q = assert(store:queue("orders", { keep_done = 60 }))
    local id = assert(q:push(1))
    local process = helper.spawn([[
      local respool = require "respool"
      local q = respool.open(arg[1], { log = false })
        :queue("orders", { create = false })
      q:work(function() return { by = "another" } end, { limit = 1 })
    ]], store.path)
    assert.same({ by = "another" }, q:await(id, { timeout = 60 }))
    process:wait()
  end)

  -- A wait that nobody rings for would last its minute.
  it("is woken by a settle of another process", function()
    local store = assert(helper.open(helper.location()))
    local q = assert(store:queue("orders", { keep_done = 60 }))
    local process = helper.spawn([[
      local respool = require "respool"
      local q = respool.open(arg[1], { log = false })
        :queue("orders", { create = false })
      q:work(function() end, { limit = 1 })
    ]], store.path)
    local seen = assert(q.handle:wait(0, 0))
    assert(q:push(1))
    repeat
      local now = assert(q.handle:wait(seen, 60))
      assert.not_equal(seen, now)
      seen = now
    until q:stats().done == 1
    process:wait()
  end)

  it("takes an id and options", function()
    assert.error_matches(function() return t.q:await "x" end,
                         "a whole number from 1")
    assert.error_matches(function() return t.q:await(1, { timeuot = 1 }) end,
                         "timeuot")
  end)
end)
