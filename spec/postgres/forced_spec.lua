-- SPDX-License-Identifier: MIT
--
-- The server fails on demand: a trigger raises an SQLSTATE, or ends its own
-- session, so many times: while a statement runs, or at the commit. A sequence,
-- which no rollback sets back, counts how often it did.

local database = require "spec.helper.database"
local helper = require "spec.helper"
local respool = require "respool"

-- How a verb's first table is touched.
local TOUCHES = {
  push = "INSERT ON run", push_many = "INSERT OR UPDATE ON call",
  take = "UPDATE ON run", done = "DELETE ON run", retry = "UPDATE ON run",
  dead = "INSERT ON dead", replay = "DELETE ON dead",
}

database.describe("a server that fails", "forced", function(db)
  local store, queue

  before_each(function()
    store = db:open()
    queue = assert(store:queue "orders")
    assert.equal("", db:run(([[
      CREATE SEQUENCE tripped MINVALUE 0;
      SELECT FROM setval('tripped', 0);
      CREATE TABLE trip (state text NOT NULL, times int NOT NULL);
      INSERT INTO trip VALUES ('', 0);
      CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql
      SET search_path = %s AS $$
      DECLARE
        t trip;
      BEGIN
        SELECT x.* INTO t FROM trip x;
        IF nextval('tripped') <= t.times THEN
          IF t.state = 'kill' THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
          ELSE
            RAISE EXCEPTION USING ERRCODE = t.state, MESSAGE = 'forced';
          END IF;
        END IF;
        RETURN NULL;
      END $$]]):format(db.schema)))
  end)

  -- From now on the first `times` touches of a table fail.
  local function fail(touch, state, times, at_commit)
    local event, tbl = touch:match "^(.+ ON) (%S+)$"
    assert.equal("", db:run(([[
      UPDATE trip SET state = '%s', times = %d;
      SELECT FROM setval('tripped', 0);
      CREATE %s TRIGGER fails AFTER %s %s %s FOR EACH ROW
        EXECUTE FUNCTION fail()]]):format(state, times,
        at_commit and "CONSTRAINT" or "", event, tbl,
        at_commit and "INITIALLY DEFERRED" or "")))
    return function() -- how often a touch was seen; none fails any more
      local seen = tonumber(db:run "SELECT last_value FROM tripped")
      assert.equal("", db:run(("DROP TRIGGER fails ON %s"):format(tbl)))
      return seen
    end
  end

  -- Each verb, on what has been prepared for it: returns what a call does.
  local VERBS = {}

  function VERBS.push()
    return function() return queue:push "new" end
  end

  function VERBS.push_many()
    return function() return queue:push_many { "a", "b" } end
  end

  function VERBS.take()
    assert(queue:push "x")
    return function() return queue:take() end
  end

  for _, outcome in ipairs { "done", "retry", "dead" } do
    VERBS[outcome] = function()
      assert(queue:push "x")
      local batch = assert(queue:take())
      return function()
        batch[outcome](batch)
        return batch:settle()
      end
    end
  end

  function VERBS.replay()
    assert(queue:push "x")
    queue:work(function() return respool.dead() end, { limit = 1 })
    return function()
      local counts, message, code = queue.dead:replay()
      return counts and counts.moved == 1 or nil, message, code
    end
  end

  -- All that is counted, but for what a clock says.
  local function state()
    local s = assert(queue:stats())
    return { s.pushed, s.delivered, s.done, s.dead, s.retried,
             queue.dead:count() }
  end

  local CODES = {
    ["57014"] = "TIMEOUT", ["53100"] = "NOSPACE",
    ["55P03"] = "BUSY", ["42501"] = "DENIED",
  }

  for verb, touch in pairs(TOUCHES) do
    it("for good: " .. verb .. " says so, and has not happened", function()
      for sqlstate, code in pairs(CODES) do
        local call = VERBS[verb]()
        local before = state()
        local over = fail(touch, sqlstate, 1000)
        assert.equal(code, helper.code(call()), sqlstate)
        assert.is_true(over() >= 1)
        assert.same(before, state())
        assert(call())
      end
      assert.same({}, store:check())
    end)

    it("for a moment: " .. verb .. " is done once", function()
      for _, sqlstate in ipairs { "40001", "40P01", "kill" } do
        for _, at_commit in ipairs { false, true } do
          local call = VERBS[verb]()
          local over = fail(touch, sqlstate, 2, at_commit)
          assert(call())
          assert.is_true(over() >= 3)
        end
      end
      assert.same({}, store:check())
    end)
  end

  it("of a conflict that does not end: BUSY, after a few tries", function()
    local over = fail("INSERT ON run", "40001", 1000)
    assert.equal("BUSY", helper.code(queue:push "x"))
    assert.equal(6, over())
    assert.equal(0, queue:length().ready)
    assert(queue:push "x")
  end)

  it("without room for pushes still gives out what it has", function()
    for i = 1, 3 do assert(queue:push(i)) end
    local over = fail("INSERT ON run", "53100", 1000)
    assert.equal("NOSPACE", helper.code(queue:push "x"))
    local batch = assert(queue:take { limit = 3 })
    batch:done()
    assert(batch:settle())
    over()
    assert.same({ 3, 3 }, { queue:stats().pushed, queue:stats().done })
  end)
end)
