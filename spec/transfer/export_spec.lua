-- SPDX-License-Identifier: MIT

local helper = require "spec.helper"
local respool = require "respool"
local transfer = require "spec.helper.transfer"

local dead_letters, numbers = transfer.dead_letters, transfer.numbers
local writer = transfer.writer

local function sizes(w)
  local list = {}
  for i, batch in ipairs(w.batches) do list[i] = #batch end
  return list
end

-- Instructions of Lua that an export takes for each item, where a writer keeps
-- all of them to the end. It took more the more there were.
local function steps_for(n)
  local q, steps, batch = helper.store():queue "orders", 0, {}
  for i = 1, n do batch[i] = i end
  q:push_many(batch)
  debug.sethook(function() steps = steps + 1 end, "", 100)
  local counts = assert(respool.export {
    queue = q, batch = 10, writer = {
      write = function() return 0 end, flush = function() end,
    },
  })
  debug.sethook()
  assert.equal(n, counts.written)
  return steps / n
end

describe("respool.export", function()
  if math.type then -- where every instruction is counted
    it("takes as much for each of many items as of few", function()
      assert.is_true(steps_for(4000) < 1.3 * steps_for(1000))
    end)
  end

  it("hands over no more bytes at once than a page holds", function()
    local q, w = helper.store():queue "orders", writer()
    for _ = 1, 5 do q:push(("x"):rep(3 * 2^20)) end
    respool.export { queue = q, writer = w }
    assert.same({ 2, 2, 1 }, sizes(w))
    q:work(function() return respool.dead() end, { stop_when_empty = true })
    w = writer()
    respool.export { dlq = q.dead, writer = w }
    assert.same({ 2, 2, 1 }, sizes(w))
    assert.equal(2, #q.dead:list())
    assert.equal(5, #q.dead:list { bytes = "1GiB" })
    assert.equal(1, #q.dead:list { bytes = 1 })
    local n = 0
    for _ in q.dead:each() do n = n + 1 end
    assert.equal(5, n)
  end)

  it("hands dead letters over in batches, and copies them", function()
    local q, w = dead_letters(7), writer()
    local counts = assert(respool.export {
      dlq = q.dead, batch = 3, writer = w,
    })
    assert.same({ total = 7, read = 7, written = 7, removed = 0, known = 0,
                  lost = 0, damaged = 0, damaged_numbers = {}, batches = 3 },
                counts)
    assert.same({ 3, 3, 1 }, sizes(w))
    local dead_letter = w.batches[1][2]
    assert.equal(2, dead_letter.number)
    assert.same({ n = 2 }, dead_letter.payload)
    assert.same({ trace = 2 }, dead_letter.headers)
    assert.equal("no 2", dead_letter.error)
    assert.equal("orders", w.batches[1].source.name)
    assert.equal(7, q.dead:count())
  end)

  it("removes what the writer accepted, and nothing else", function()
    local q, calls = dead_letters(7), 0
    local counts, message, code, so_far = respool.export {
      store = q.store, dlq = "orders", remove = true, batch = 3,
      writer = function()
        calls = calls + 1
        if calls == 2 then return nil, "the shelf is full", "NOSPACE" end
      end,
    }
    assert.is_nil(counts)
    assert.equal("the shelf is full", message)
    assert.equal("NOSPACE", code)
    assert.equal(3, so_far.removed)
    assert.equal(4, q.dead:oldest().number)
    assert.equal(4, q.dead:count())
  end)

  it("takes a writer that raises for one that refuses", function()
    local q = dead_letters(2)
    local counts, message, code = respool.export {
      dlq = q.dead, remove = true, writer = function() error("broken", 0) end,
    }
    assert.is_nil(counts)
    assert.equal("broken", message)
    assert.equal("IO", code)
    assert.equal(2, q.dead:count())
  end)

  it("waits for a writer that accepts later", function()
    local q, w = dead_letters(5), { given = 0 }
    function w:write(batch)
      self.given = self.given + #batch
      if self.given == 4 then return 3 end -- the first three
      return 0
    end
    function w.flush()
      assert.equal(2, q.dead:count())
      return true
    end
    local counts = assert(respool.export {
      dlq = q.dead, remove = true, batch = 2, writer = w,
    })
    assert.equal(5, counts.removed)
  end)

  it("does not remove what a writer never accepts", function()
    local q = dead_letters(2)
    local counts, message = respool.export {
      dlq = q.dead, remove = true, writer = function() return 1 end,
    }
    assert.is_nil(counts)
    assert.matches("not accepted all", message)
    assert.equal(1, q.dead:count())
  end)

  it("hands a batch over when it has waited for the interval", function()
    local q, w = dead_letters(1), writer()
    local began, waited = q.store:now(), nil
    respool.export {
      dlq = q.dead, follow = true, interval = 30, batch = 10, writer = w,
      on_progress = function(counts)
        waited = q.store:now() - began
        return counts.batches == 0
      end,
    }
    assert.same({ 1 }, sizes(w))
    assert.near(30, waited, 0.5)
  end)

  it("goes on with what comes when it follows", function()
    local q, w, more = dead_letters(2), writer(), 0
    respool.export {
      dlq = q.dead, follow = true, remove = true, writer = w,
      on_progress = function(counts)
        if counts.removed == 2 and more == 0 then
          more = 1
          dead_letters(3, q.store)
        end
        return counts.removed < 5
      end,
    }
    assert.same({ 2, 3 }, sizes(w))
    assert.equal(0, q.dead:count())
  end)

  it("ends with the dead letters there were when it began", function()
    local q, n = dead_letters(4), 0
    respool.export { dlq = q.dead, batch = 2, writer = function(batch)
      n = n + #batch
      dead_letters(1, q.store)
    end }
    assert.equal(4, n)
  end)

  it("takes a group, and no more than the limit", function()
    local q, w = dead_letters(9), writer()
    respool.export { dlq = q.dead, group = "odd", limit = 3, writer = w }
    local got = {}
    for i,
      dead_letter in ipairs(w.batches[1]) do got[i] = dead_letter.payload.n end
    assert.same({ 1, 3, 5 }, got)
  end)

  it("copies the items of a queue in every state", function()
    local q, w = helper.store():queue "orders", writer()
    q:push({ n = 1 })
    q:push({ n = 2 }, { delay = 60, priority = 3, key = "k", ttl = 90 })
    local batch = q:take()
    respool.export { queue = q, writer = w }
    local by_n = {}
    for _, item in ipairs(w.batches[1]) do by_n[item.payload.n] = item end
    assert.equal("leased", by_n[1].state)
    assert.equal("scheduled", by_n[2].state)
    assert.equal("k", by_n[2].key)
    assert.near(q.store:now() + 60, by_n[2].visible_at, 0.1)
    assert.near(q.store:now() + 90, by_n[2].expires_at, 0.1)
    batch:close()
    assert.equal(2, q:length().total)
  end)

  it("moves the items that are ready, and leaves the others", function()
    local q, w = helper.store():queue "orders", writer()
    for i = 1, 5 do q:push({ n = i }) end
    q:push({ n = 6 }, { delay = 60 })
    local batch = q:take()
    local counts = assert(respool.export {
      queue = q, remove = true, batch = 2, writer = w,
    })
    assert.equal(4, counts.removed)
    assert.same({ 1, 6 }, numbers(q))
    batch:close()
    assert.same({}, q.store:check())
  end)

  it("moves the items of an ordered queue", function()
    local q, w = helper.store():queue("orders", { ordered = true }), writer()
    for i = 1, 5 do q:push({ n = i }) end
    assert.equal(5, respool.export {
      queue = q, remove = true, batch = 2, writer = w,
    }.removed)
    assert.equal(0, q:length().total)
  end)

  it("gives items back that the writer did not accept", function()
    local q = helper.store():queue "orders"
    for i = 1, 5 do q:push({ n = i }) end
    respool.export { queue = q, remove = true, writer = function()
      return false, "no"
    end }
    assert.equal(5, q:length().scheduled)
    q.store:advance(20)
    assert.equal(5, q:length().ready)
    assert.equal(0, q:peek()[1].attempts)
    assert.equal(0, q:peek()[1].crashes)
  end)

  it("says that nothing can be taken from a paused queue", function()
    local q = helper.store():queue "orders"
    q:pause()
    local counts, message, code = respool.export {
      queue = q, remove = true, writer = writer(),
    }
    assert.is_nil(counts)
    assert.matches("'orders' is paused", message)
    assert.equal("BUSY", code)
  end)

  it("counts dead letters that somebody else took meanwhile", function()
    local q = dead_letters(3)
    local counts = assert(respool.export {
      dlq = q.dead, remove = true, writer = function() q.dead:retry(2) end,
    })
    assert.equal(2, counts.removed)
    assert.equal(1, counts.lost)
  end)

  it("counts items that were handed to somebody else meanwhile", function()
    local q, batch = helper.store():queue "orders", nil
    for i = 1, 3 do q:push({ n = i }) end
    local counts = assert(respool.export {
      queue = q, remove = true, writer = function()
        q.store:advance(21)
        batch = q:take()
      end,
    })
    assert.equal(2, counts.removed)
    assert.equal(1, counts.lost)
    batch:close()
    assert.equal(1, q:length().total)
    assert.same({}, q.store:check())
  end)

  it("flushes the writer before others may get the items", function()
    local q, flushed = helper.store():queue "orders", {}
    for i = 1, 40 do q:push({ n = i }) end
    local given = 0
    local counts = assert(respool.export {
      queue = q, remove = true, batch = 10, writer = {
        write = function(_, batch)
          given = given + #batch
          q.store:advance(6)
          return 0
        end,
        flush = function() table.insert(flushed, given) end,
      },
    })
    assert.equal(40, counts.removed)
    assert.same({ 20, 40 }, flushed)
  end)

  it("moves dead letters for one at a time", function()
    local q = dead_letters(1)
    respool.export { dlq = q.dead, remove = true, writer = function()
      local counts, message, code = respool.export {
        dlq = q.dead, remove = true, writer = writer(),
      }
      assert.is_nil(counts)
      assert.matches("another export", message)
      assert.equal("LOCKED", code)
    end }
    assert.equal(0, q.dead:count())
  end)

  it("tells a writer where records come from, even when there are none",
     function()
    local w, q = writer(), helper.store():queue "orders"
    function w:begin(origin) self.source = origin end
    assert(respool.export { queue = q, writer = w })
    assert.same({ "items", "orders", 0 },
                { w.source.kind, w.source.name, #w.batches })
    function w.begin() error("no shelf", 0) end
    local counts, message, code = respool.export { queue = q, writer = w }
    assert.same({ nil, "no shelf", "IO" }, { counts, message, code })
  end)

  it("refuses options that are none", function()
    local q = dead_letters(1)
    local function refuses(o, pattern)
      assert.error_matches(function() respool.export(o) end, pattern)
    end
    refuses({ dlq = q.dead }, "option 'writer' is missing")
    refuses({ writer = print }, "either a 'dlq' or a 'queue'")
    refuses({ writer = print, queue = q, dlq = q.dead }, "either a 'dlq'")
    refuses({ writer = print, dlq = "orders" }, "needs its 'store'")
    refuses({ writer = print, queue = q, group = "x" }, "'group'")
    refuses({ writer = print, queue = q, follow = true }, "'remove'")
    refuses({ writer = 1, queue = q }, "'writer' must be")
    refuses({ writer = print, queue = q, fast = 1 }, "unknown option 'fast'")
    refuses({ writer = print, queue = q, batch = 0 }, "'batch'")
  end)
end)
