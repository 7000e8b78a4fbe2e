-- SPDX-License-Identifier: MIT
--
-- A queue while another session holds a snapshot, so that no dead row can be
-- removed. What is counted are the entries of indexes that a life (push, take,
-- done) reads, as the server counts them: they must not grow with the dead
-- rows. Those of a queue of one row an item do: it is the control.

local database = require "spec.helper.database"
local helper = require "spec.helper"

local DEAD = 1500  -- lives beside the snapshot before those that are counted
local LIVES = 300

describe("a queue beside a snapshot that is held", function()
  if not database.installed() then
    pending "needs the package postgresql"
    return
  end

  local db

  setup(function() db = database.start "snapshot" end)
  teardown(database.stop)

  local function hold()
    local holder = helper.spawn("os.execute(arg[1])", db:psql [[
      BEGIN ISOLATION LEVEL REPEATABLE READ;
      SELECT 'pid ' || pg_backend_pid() FROM pg_class LIMIT 1;
      SELECT pg_sleep(600);
    ]])
    holder:expect "pid"
    return tonumber(holder:output():match "pid (%d+)")
  end

  local function let_go(pid)
    db:sql(("SELECT pg_terminate_backend(%d)"):format(pid))
  end

  -- Entries of indexes that were read. A server process tells them when it
  -- ends.
  local function entries(schema)
    return tonumber(db:sql(([[
      SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_all_indexes
      WHERE schemaname = '%s']]):format(schema)))
  end

  local function settled_count(schema)
    local last
    repeat
      local now = last
      last = entries(schema)
      os.execute "sleep 0.5"
    until now == last
    return last
  end

  -- Entries a life, after DEAD lives beside the snapshot, and how long LIVES
  -- took.
  local function entries_a_life(schema, live)
    live(DEAD)
    local before, began = settled_count(schema), os.time()
    live(LIVES)
    local seconds = os.time() - began + 1
    return (settled_count(schema) - before) / LIVES, seconds
  end

  local function ours(location, lease, fails)
    return function(n)
      local store = assert(helper.open(location))
      local queue = assert(store:queue "orders")
      for i = 1, n do
        assert(queue:push(i))
        local batch = assert(queue:take { lease = lease })
        if fails then
          batch:retry { delay = 0 }
          assert(batch:settle())
          batch = assert(queue:take { lease = lease })
        end
        assert.equal(i, batch:item(1).payload)
        batch:done()
        assert(batch:settle())
      end
      assert(store:close())
    end
  end

  local function naive(schema)
    return function(n)
      db:sql(([[
        SET search_path = %s; SET synchronous_commit = off;
        DO $$ BEGIN
          FOR i IN 1 .. %d LOOP
            INSERT INTO job (body) VALUES ('x');
            COMMIT;
            UPDATE job SET due = 30000 + i WHERE id = (
              SELECT id FROM job WHERE queue = 1 AND due <= 20000
              ORDER BY priority DESC, due, id LIMIT 1
              FOR UPDATE SKIP LOCKED);
            COMMIT;
            DELETE FROM job WHERE due = 30000 + i;
            COMMIT;
          END LOOP;
        END $$]]):format(schema, n))
    end
  end

  -- Once a second a take looks at all that is due, dead or not, and once at
  -- what was within the last seconds.
  local function bound(seconds)
    return 40 + seconds * 4 * (DEAD + LIVES) / LIVES
  end

  it("goes on, and visits no more than without", function()
    local location, schema = db:url()
    assert(assert(helper.open(location)):queue "orders")
    local pid = hold()
    local n, seconds = entries_a_life(schema, ours(location))
    local found = db:sql(("SELECT holder, seconds >= 0, dead_rows >= 0 "
      .. "FROM %s.v1_horizon()"):format(schema))
    let_go(pid)
    assert.equal(("session %d|t|t"):format(pid), found)
    assert.is_true(n < bound(seconds))
  end)

  -- Their settle read all of the queue by the index of takes.
  it("visits no more when each item fails once", function()
    local location, schema = db:url()
    assert(assert(helper.open(location)):queue "orders")
    local pid = hold()
    local n, seconds = entries_a_life(schema, ours(location, 0.01, true))
    let_go(pid)
    assert.is_true(n < bound(2 * seconds))
  end)

  it("is told by health and metrics", function()
    local store = assert(helper.open((db:url())))
    local pid = hold()
    os.execute "sleep 1"
    local health = store:health {
      snapshot_age = 0.5, write_seconds = 60, read_seconds = 60,
    }
    local vacuum = health.components.vacuum
    local metrics = store:metrics()
    let_go(pid)
    assert.equal("degraded", vacuum.status)
    assert.equal("degraded", health.status)
    assert.is_true(vacuum.snapshot_age >= 1 and vacuum.snapshot_age < 60)
    assert.is_true(vacuum.dead_rows >= 0)
    assert.matches("\nrespool_snapshot_age_seconds [1-9]", metrics)
    assert.equal("healthy",
                 store:health({ snapshot_age = 600 }).components.vacuum.status)
    assert(store:close())
  end)

  -- The entry of a lease lies at its end. Once that has passed, it lies where
  -- takes look for what is due, though the item was done long before.
  it("visits no more when the ends of leases have passed", function()
    local location, schema = db:url()
    assert(assert(helper.open(location)):queue "orders")
    local pid = hold()
    local n, seconds = entries_a_life(schema, ours(location, 0.01))
    let_go(pid)
    assert.is_true(n < bound(seconds))
  end)

  it("would visit all dead rows with one row an item", function()
    db:sql [[
      CREATE SCHEMA naive;
      CREATE TABLE naive.job (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        queue int4 NOT NULL DEFAULT 1, priority int2 NOT NULL DEFAULT 0,
        due int8 NOT NULL DEFAULT 0, body text NOT NULL);
      CREATE INDEX ON naive.job (queue, priority DESC, due, id);
      CREATE INDEX ON naive.job (due);
    ]]
    local pid = hold()
    local n, seconds = entries_a_life("naive", naive "naive")
    let_go(pid)
    assert.is_true(n > bound(seconds))
  end)
end)
