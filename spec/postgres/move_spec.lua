-- SPDX-License-Identifier: MIT
--
-- Moving between a directory and a database, both ways, while the mover is
-- killed: before and after the first of each kind of call into the core that
-- writes, or with FAULT=long every call there is. Whoever moves again
-- finds each item in one of the two stores, and in the end each once in the
-- other. The control is a mover that does not look whether it was there.

local carried = require "spec.helper.carried"
local database = require "spec.helper.database"
local helper = require "spec.helper"
local killed = require "spec.helper.killed"

-- Moves from one store to another. Prints its calls into the core by name; with
-- a name, a number and "before" or "after" it is killed there.
local MOVER = killed.text() .. [[
  local respool = require "respool"
  local core = require "respool.core"
  local from_path, to_path, kind, ahead, blind, name, nth, side =
    (table.unpack or unpack)(arg)
]] .. carried.BLIND .. [[
  local function open(path)
    local store = assert(respool.open(path, { clock = "manual", log = false }))
    store:advance(tonumber(ahead))
    return assert(store:queue "orders")
  end
  local from, to = open(from_path), open(to_path)
  local methods_of = killed.methods_of
  local calls = killed.watcher(name, nth, side)
  local tx = assert(to.store.handle:begin())
  calls:watch("transaction", methods_of(tx), "commit")
  tx:close()
  calls:watch("store", methods_of(to.store.handle), "dead_list",
              "dead_remove", "note_load")
  calls:watch("queue", methods_of(to.handle), "take", "remove_many", "push")
  calls:watch("batch", core.batch, "settle")
  local o = { to = to, queue = kind == "items" and from or nil,
              dlq = kind == "dead" and from.dead or nil }
  local counts, message = respool.move(o)
  assert(counts, message)
  calls:print()
]]

database.describe("a move between a directory and a database", "moved",
                  function(db)
  local ahead

  local function mover(from, to, kind, blind, ...)
    return helper.spawn(MOVER, from.store.path, to.store.path, kind, ahead,
                        blind and "blind" or "", ...)
  end

  -- The calls of a move that is not killed: name and how many there are.
  local function calls_of(from, to, kind)
    local child = mover(from, to, kind)
    assert.equal(0, child:wait(), child:output())
    return killed.calls(child:output())
  end

  -- Locks and leases of whoever was killed run out; and a child's clock, which
  -- starts later, is behind.
  local function wait_for_leases(from, to)
    ahead = ahead + 1000
    from.store:advance(1000)
    to.store:advance(1000)
  end

  -- Kills a mover at a point and moves again; how often each payload is there,
  -- and how many there are.
  local function kill_and_move(at, kind, from, to, blind)
    carried.fill(from, kind)
    local child = mover(from, to, kind, blind, at[1], at[2], at[3])
    assert.equal(137, child:wait(), child:output())
    wait_for_leases(from, to)
    child = mover(from, to, kind, blind)
    assert.equal(0, child:wait(), child:output())
    wait_for_leases(from, to)
    carried.assert_left(kind, from, at)
    return carried.drained(to)
  end

  for _, way in ipairs { "into", "out of" } do
    for kind, what in pairs { items = "items", dead = "dead letters" } do
      it(("%s the database moves %s once, wherever it is killed")
         :format(way, what), function()
        ahead = 0
        local from, to = carried.pair(way, db)
        carried.fill(from, kind)
        local calls = calls_of(from, to, kind)
        wait_for_leases(from, to)
        assert.equal(carried.N, select(2, carried.drained(to)))
        local n = 0
        for _, at in ipairs(killed.points(calls, carried.WRITES)) do
          local times, total = kill_and_move(at, kind, from, to)
          carried.assert_once(at, times, total)
          n = n + 1
        end
        assert.is_true(n >= (kind == "items" and 6 or 4))
        assert.same({}, from.store:check())
        assert.same({}, to.store:check())
      end)
    end
  end

  it("that does not look what it moved before is found out", function()
    ahead = 0
    local from, to = carried.pair("into", db)
    local _, n = kill_and_move({ "transaction.commit", 1, "after" }, "items",
                               from, to, true)
    assert.is_true(n > carried.N)
  end)
end)
