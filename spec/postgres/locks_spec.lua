-- SPDX-License-Identifier: MIT
--
-- Two sessions in each other's way: what one has begun, by hand and step by
-- step, while a store does something else. None waits for the other in a
-- circle; a session that did would see it within a moment, and say so.

local database = require "spec.helper.database"
local helper = require "spec.helper"

database.describe("two sessions on one queue", "locks", function(db)

  -- A session that settles the one leased item, waits until another waits for
  -- a lock, and pushes that item anew, all in one transaction.
  local function settle_and_push(schema)
    return helper.spawn("os.exit(os.execute(arg[1]) and 0 or 1)", db:psql(([[
      SET deadlock_timeout = '10ms';
      SET search_path = %s;
      BEGIN;
      SELECT v1_done(x.queue, 0, NULL, NULL, NULL, x.epoch, true, false,
        false, ARRAY[x.first], ARRAY[x.live]), 'settled' FROM run x;
      DO $$ BEGIN
        FOR i IN 1 .. 2000 LOOP
          EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE NOT granted);
          PERFORM pg_sleep(0.01);
        END LOOP;
      END $$;
      SELECT v1_push(h.queue, 0, NULL, NULL, NULL, 0::int2, 0, NULL, NULL, 0, 0,
        NULL, 0::int2, 1, NULL, 0::int2, 0, NULL, NULL, false, 1,
        octet_length(h.bytes), ARRAY[h.first], ARRAY[1], ARRAY[h.bytes], NULL)
        FROM history h;
      COMMIT;
      SELECT 'over';
    ]]):format(schema)))
  end

  it("settles and pushes while the other puts the queue in order", function()
    local location, schema = db:url()
    local store = assert(helper.open(location))
    local queue = assert(store:queue("orders", { keep_done = 600 }))
    assert(queue:push "a")
    assert(queue:take())
    local other = settle_and_push(schema)
    other:expect "settled"
    assert(store:queue("orders", { ordered = true }))
    other:expect "over"
    assert.equal(0, other:wait())
    assert(queue:push "b")
    local batch = assert(queue:take { limit = 2 })
    assert.same({ "a", "b" }, { batch:item(1).payload, batch:item(2).payload })
    assert.same({}, store:check())
  end)

  -- A session that has an item's lock, as for the settle of a lease that ran
  -- out, and wants the queue's order, as for the take that goes with it, once
  -- another waits for a lock or has taken.
  local function settle_and_take(schema)
    return helper.spawn("os.exit(os.execute(arg[1]) and 0 or 1)", db:psql(([[
      SET deadlock_timeout = '10ms';
      SET search_path = %s;
      BEGIN;
      SELECT 'has the item' FROM run FOR UPDATE;
      DO $$ BEGIN
        FOR i IN 1 .. 2000 LOOP
          EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE NOT granted)
            OR EXISTS (SELECT FROM note);
          PERFORM pg_sleep(0.01);
        END LOOP;
      END $$;
      SELECT 'has the order' FROM (SELECT pg_advisory_xact_lock(
        'queue'::regclass::oid::int4, id) FROM queue OFFSET 0) x;
      COMMIT;
      SELECT 'over';
    ]]):format(schema)))
  end

  it("takes from an ordered queue while the other settles late and takes",
     function()
    local location, schema = db:url()
    local store = assert(helper.open(location))
    local queue = assert(store:queue("orders", { ordered = true }))
    assert(queue:push "a")
    assert(queue:take { lease = 0.001 })
    local other = settle_and_take(schema)
    other:expect "has the item"
    assert.equal(0, #assert(queue:take()))
    db:sql(("INSERT INTO %s.note VALUES ('taken', '')"):format(schema))
    other:expect "over"
    assert.equal(0, other:wait(), other:output())
    assert.equal(1, #assert(queue:take { timeout = 20 }))
    assert.same({}, store:check())
  end)
end)
