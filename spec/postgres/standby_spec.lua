-- SPDX-License-Identifier: MIT
--
-- A primary whose standby is gone, and commits whose wait for it is ended by
-- hand, which the server answers with a warning or not at all. None of them
-- counts as done before a standby that is waited for has it.

local database = require "spec.helper.database"
local helper = require "spec.helper"

database.describe("a commit that waits for a standby", "standby", function(db)
  local store, queue

  before_each(function()
    store = db:open "&patience=60"
    queue = assert(store:queue "orders")
  end)

  after_each(function()
    db:run "ALTER SYSTEM RESET synchronous_standby_names"
    db:run "SELECT pg_reload_conf()"
  end)

  -- Waits for the next commit that waits, and `ends` its wait, by its query;
  -- then for one whose wait ends as none is asked for any more.
  local function end_waits(ends)
    return helper.spawn("os.exit(os.execute(arg[1]) and 0 or 1)", db:psql(([[
      SET search_path = %s;
      SET synchronous_commit = off;
      CREATE TABLE seen (at timestamptz NOT NULL, query text NOT NULL);
      ALTER SYSTEM SET synchronous_standby_names = 'nobody';
      SELECT FROM pg_reload_conf();
      DO $$
      DECLARE
        a record;
      BEGIN
        FOR i IN 1 .. 3 LOOP
          FOR k IN 1 .. 3000 LOOP
            PERFORM pg_stat_clear_snapshot();
            SELECT x.* INTO a FROM pg_stat_activity x
              WHERE x.wait_event = 'SyncRep' AND x.query_start > coalesce(
                (SELECT max(s.at) FROM seen s), '-infinity');
            EXIT WHEN FOUND;
            PERFORM pg_sleep(0.01);
          END LOOP;
          INSERT INTO seen VALUES (a.query_start, a.query);
          IF i = 1 THEN PERFORM %s(a.pid); END IF;
          IF i = 2 THEN PERFORM pg_cancel_backend(a.pid); END IF;
        END LOOP;
      END $$;
      ALTER SYSTEM RESET synchronous_standby_names;
      SELECT FROM pg_reload_conf();
    ]]):format(db.schema, ends)))
  end

  for _, ends in ipairs { "pg_cancel_backend", "pg_terminate_backend" } do
    it("is asked about until its wait is over: " .. ends, function()
      local other = end_waits(ends)
      local n = 0
      repeat
        n = n + 1
        assert(queue:push(n))
        local batch = assert(queue:take())
        batch:done()
        assert(batch:settle())
      until db:run "SELECT count(*) FROM seen" == "3" or n == 3000
      assert.equal(0, other:wait())
      assert.same({ "asks", "asks" }, { db:run([[SELECT CASE
        WHEN query LIKE '%v1\_resolve(%' THEN 'asks' ELSE query END
        FROM seen ORDER BY at OFFSET 1]]):match "^(%C*)\n(%C*)$" })
      assert.equal(n, queue:stats().done)
      assert.same({}, store:check())
    end)
  end
end)
