-- SPDX-License-Identifier: MIT
--
-- What a store in a database keeps of what is over: the calls that have
-- happened, by the server's clock, and finished items.

local database = require "spec.helper.database"

database.describe("a store in a database", "kept", function(db)
  local store

  before_each(function() store = db:open() end)

  -- The cause: ids of calls begin with the time by the client's clock, and
  -- calls were forgotten by that of the client that did so. Where it was a day
  -- ahead, an unknown outcome was answered with "has not happened".
  it("forgets calls by the server's clock, not by a client's", function()
    assert.equal("", db:run [[
      INSERT INTO call (id, no, answer, at) VALUES
        ('01000000-0000-7000-8000-000000000001', 1, '{1}', now()),
        ('01000000-0000-7000-8000-000000000002', 1, '{1}',
         now() - interval '23 hours'),
        ('01000000-0000-7000-8000-000000000003', 1, '{1}',
         now() - interval '25 hours'),
        ('f1000000-0000-7000-8000-000000000004', 1, '{1}', now())]])
    assert(store:maintain())
    assert.equal("1\n2\n4", db:run [[
      SELECT right(id::text, 1) FROM call
        WHERE id::text LIKE '%-00000000000_' ORDER BY id]])
  end)

  -- The cause: each push and each settle left a row for a day.
  it("has a row for some hundred calls", function()
    local q = assert(store:queue "orders")
    for i = 1, 350 do
      assert(q:push(i))
      local batch = assert(q:take())
      batch:done()
      assert(batch:settle())
    end
    assert.is_true(tonumber(db:run "SELECT count(*) FROM call") < 10)
  end)

  it("counts in the rows of calls until they are left behind", function()
    local q, other = assert(store:queue "orders"), assert(store:queue "other")
    local function counted()
      return db:run [[
        SELECT count(*), sum(pushed), sum(done), sum(bytes) > 0 FROM call
          WHERE queue IS NOT NULL]]
    end
    for i = 1, 5 do
      assert(q:push(i))
      assert(other:push(i))
    end
    for _ = 1, 3 do
      local batch = assert(q:take())
      batch:done()
      assert(batch:settle())
    end
    assert.equal("1|4|3|t", counted()) -- the first push has made the row
    local before = { q:stats(), other:stats() }
    assert(store:maintain())
    assert.equal("1|4|3|t", counted())
    assert.equal("", db:run "UPDATE call SET at = at - interval '61 s'")
    assert(store:maintain())
    assert.equal("0|||", counted())
    for i, s in ipairs { q:stats(), other:stats() } do
      for _, name in ipairs { "pushed", "done", "ready", "bytes" } do
        assert.equal(before[i][name], s[name], name)
      end
    end
    assert(q:push "into a row that has no queue any more")
    assert.equal(6, q:stats().pushed)
    assert.same({}, store:check())
  end)

  it("keeps no counters of a queue that is dropped", function()
    local q = assert(store:queue "orders")
    for i = 1, 2 do assert(q:push(i)) end
    assert(store:drop_queue "orders")
    assert.equal("0", db:run "SELECT count(*) FROM counted")
    assert.same({}, store:check())
  end)

  -- The cause: each of them kept the bytes of the whole run.
  it("keeps of a batch that is settled item by item each item once",
     function()
    local q = assert(store:queue("orders", { keep_done = "1h" }))
    local bodies = {}
    for i = 1, 10 do bodies[i] = i .. ("x"):rep(1000) end
    assert(q:push_many(bodies))
    local batch = assert(q:take { limit = 10 })
    for _, i in ipairs { 3, 1, 10, 7, 2, 9, 4, 8, 6, 5 } do
      assert(batch[i]:done())
      assert(batch:settle())
    end
    local stats = q:stats()
    assert.equal(10, stats.kept)
    assert.is_true(stats.kept_bytes < 11000, tostring(stats.kept_bytes))
    local seen = {}
    for _, item in ipairs(assert(q.history:list())) do
      seen[#seen + 1] = item.payload
    end
    table.sort(bodies)
    table.sort(seen)
    assert.same(bodies, seen)
    assert.same({}, store:check())
  end)
end)
