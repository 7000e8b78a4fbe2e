-- SPDX-License-Identifier: MIT
--
-- A queue with partitions in a database, worked on by processes that are killed
-- before they send a message to the server, and behind that: no partition has
-- more items leased than it may, none is stuck, and no item is lost. What the
-- server has got it does to its end, so each next process waits for that.
-- FAULT=long kills at each pass.

local database = require "spec.helper.database"
local kills = require "spec.helper.partition_kills"

local STEP = os.getenv "FAULT" == "long" and 1 or 6

database.describe("partitions in a database, of processes that are killed",
                  "kills", function(db)

  local function wait_for_sessions()
    assert.equal("", db:sql [[DO $$ BEGIN
      FOR i IN 1 .. 6000 LOOP
        PERFORM pg_stat_clear_snapshot();
        IF NOT EXISTS (SELECT FROM pg_stat_activity a
            WHERE a.datname = current_database()
              AND a.backend_type = 'client backend'
              AND a.pid <> pg_backend_pid()) THEN
          RETURN;
        END IF;
        PERFORM pg_sleep(0.01);
      END LOOP;
      RAISE 'sessions do not end';
    END $$]])
  end

  it("keep their bounds, and none is stuck", function()
    for _, point in ipairs { "send", "sent" } do
      for passes = 8, 32, STEP do
        local path, label = db:url(), point .. passes
        local pushes, killed = kills.run(path, point, passes)
        assert.is_true(killed, label)
        wait_for_sessions()
        local more = kills.run(path)
        assert.equal(kills.ROUNDS, more, label)
        wait_for_sessions()
        assert.same({}, kills.look(path, pushes + more, label), label)
      end
    end
  end)

  it("would have too many leased if nothing bounded them", function()
    local path, schema = db:url()
    assert.equal(kills.ROUNDS, kills.run(path))
    assert.is_true(kills.is_bounded(path))
    db:sql(("UPDATE %s.bounds SET concurrency = 0"):format(schema))
    assert.equal(kills.ROUNDS, kills.run(path))
    assert.is_false(kills.is_bounded(path))
  end)
end)
