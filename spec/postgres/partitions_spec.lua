-- SPDX-License-Identifier: MIT
--
-- Partitions in a database: only takes write their turns, and what changes
-- beside a take that cannot see it yet is found by the next one. Transactions
-- are begun by hand and stopped half way.

local database = require "spec.helper.database"
local helper = require "spec.helper"

database.describe("partitions in a database", "parted", function(db)
  local store

  before_each(function() store = db:open() end)

  -- A session that does this, and commits it when it is told to; or, if `last`
  -- is given, when somebody waits for a lock, with that as its last statement.
  local function begin(text, last)
    local session = helper.spawn("os.exit(os.execute(arg[1]) and 0 or 1)",
      db:psql(([[
        SET search_path = %s;
        BEGIN;
        %s;
        SELECT 'has done it';
        DO $$ BEGIN
          FOR i IN 1 .. 2000 LOOP
            EXIT WHEN EXISTS (SELECT FROM note) OR (%s AND EXISTS (
              SELECT FROM pg_locks WHERE NOT granted
                AND locktype IN ('advisory', 'transactionid')));
            PERFORM pg_sleep(0.01);
          END LOOP;
        END $$;
        %s;
        COMMIT;
        SELECT 'over';
      ]]):format(db.schema, text, last and "true" or "false", last or "")))
    session:expect "has done it"
    return session
  end

  local function commit(session)
    db:sql(("INSERT INTO %s.note VALUES ('go on', '')"):format(db.schema))
    session:expect "over"
    assert.equal(0, session:wait(), session:output())
  end

  it("are found when a push of one commits after a take found it empty",
     function()
    local q = assert(store:queue("orders", { keep_done = 600 }))
    assert(q:push("a", { partition = "p" }))
    local batch = assert(q:take())
    batch:done()
    assert(batch:settle())
    local push = begin [[
      SELECT v1_push(h.queue, 0, NULL, NULL, NULL, 0::int2, 0, NULL, NULL, 0, 0,
        NULL, 0::int2, 1, NULL, 0::int2, 0, NULL, NULL, false, 1,
        octet_length(h.bytes), ARRAY[h.first], ARRAY[1], ARRAY[h.bytes],
        ARRAY['p'::bytea]) FROM history h]]
    assert.equal(0, #assert(q:take()))
    assert.same({}, q:partitions())
    commit(push)
    assert.equal(1, #assert(q:take()))
    assert.same({}, store:check())
  end)

  it("give what a settle that commits after a take has let go", function()
    local q = assert(store:queue("orders", {
      partitions = { concurrency = 1 }, lease = 600,
    }))
    assert(q:push_many({ "a", "b" }, { partition = "p" }))
    assert.equal(1, #assert(q:take { limit = 2 }))
    local settle = begin [[
      SELECT v1_done(x.queue, 0, NULL, NULL, NULL, x.epoch, false, false,
        false, ARRAY[x.first], ARRAY[x.live]) FROM run x WHERE x.state = 1]]
    assert.equal(0, #assert(q:take { limit = 2 }))
    commit(settle)
    local batch = assert(q:take { limit = 2 })
    assert.same({ 1, "b" }, { #batch, batch:item(1).payload })
    assert.same({}, store:check())
  end)

  it("keep their places while a settle has their flow", function()
    local q = assert(store:queue("orders", {
      partitions = { rate = { items = 10, per = 1 } },
    }))
    assert(q:push_many({ "a", "b" }, { partition = "p" }))
    assert.equal(1, #assert(q:take { limit = 1 }))
    assert(q:push("c", { partition = "q" }))
    local settle = begin "SELECT FROM flow FOR NO KEY UPDATE"
    local batch = assert(q:take { limit = 2 })
    assert.same({ 1, "c" }, { #batch, batch:item(1).payload })
    commit(settle)
    assert.equal("b", assert(q:take { limit = 2 }):item(1).payload)
    assert.same({}, store:check())
  end)

  local TAKE = [[
    SELECT count(*) FROM queue u, v1_take(u.id, 0, NULL, 1, NULL, NULL, NULL,
      NULL, 1000000000)]]

  it("give what a hold kept, where it ends while a take leaves their lines",
     function()
    local q = assert(store:queue "orders")
    assert(q:push("a", { partition = "p" }))
    assert(q:hold(600, { partition = "p" }))
    local take = begin(TAKE)
    assert(q:hold(0, { partition = "p" }))
    commit(take)
    assert.equal(1, #assert(q:take()))
    assert.same({}, store:check())
  end)

  for name, bound in pairs {
    concurrency = { concurrency = 1 },
    rate = { rate = { items = 1, per = 86400 } },
  } do
    it(("give what a policy allows, where it changes while a take leaves " ..
       "their lines: %s"):format(name), function()
      local q = assert(store:queue("orders", {
        partitions = bound, lease = 600,
      }))
      assert(q:push_many({ "a", "b" }, { partition = "p" }))
      local take = begin(TAKE, "SELECT")
      assert(store:queue("orders", {
        partitions = { concurrency = 0, rate = false },
      }))
      commit(take)
      assert.equal("b", assert(q:take()):item(1).payload)
      assert.same({}, store:check())
    end)
  end

  it("are not in strict order when a take that waited has its turn", function()
    local q = assert(store:queue("orders", {
      partitions = { ordered = true }, lease = 600,
    }))
    assert(q:push_many({ "a", "b" }, { partition = "p" }))
    assert.equal("a", assert(q:take()):item(1).payload)
    local policy = begin([[
      SELECT pg_advisory_xact_lock('queue'::regclass::oid::int4, id)
        FROM queue;
      UPDATE queue SET by_line = false;
      INSERT INTO wake (queue, priority, partition)
        SELECT queue, priority, partition FROM line]], "SELECT")
    assert.equal("b", assert(q:take()):item(1).payload)
    commit(policy)
    assert.same({}, store:check())
  end)

  it("are held though a take removes what was known of their flow", function()
    local q = assert(store:queue "orders")
    assert(q:push("a", { partition = "p" }))
    assert(q:hold(1, { partition = "p" }))
    local take = begin("SELECT FROM flow FOR UPDATE", "DELETE FROM flow")
    assert(q:hold(600, { partition = "p" }))
    commit(take)
    assert.equal(0, #assert(q:take()))
    assert.same({}, store:check())
  end)

  it("wake a consumer of another process when one is done", function()
    local q = assert(store:queue("orders", {
      partitions = { ordered = true }, lease = 600,
    }))
    assert(q:push_many({ "a", "b" }, { partition = "p" }))
    local batch = assert(q:take())
    local other = helper.spawn([[
      io.stdout:setvbuf "no"
      local store = assert(require "respool".open(arg[1]))
      local q = assert(store:queue "orders")
      print("looks", #assert(q:take()))
      local batch = assert(q:take { timeout = 60 })
      print("has", batch:item(1).payload)
      os.exit(0)
    ]], store.path)
    other:expect "looks\t0"
    batch:done()
    assert(batch:settle())
    other:expect "has\tb"
    assert.equal(0, other:wait(), other:output())
  end)
end)
