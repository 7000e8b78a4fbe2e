-- SPDX-License-Identifier: MIT
--
-- Moving between a directory and a database, both ways, while the mover is
-- killed: before and after the first of each kind of call into the core that
-- writes, or with FAULT=long every call there is. Whoever moves again
-- finds each item in one of the two stores, and in the end each once in the
-- other. The control is a mover that does not look whether it was there.

local database = require "spec.helper.database"
local helper = require "spec.helper"
local killed = require "spec.helper.killed"
local respool = require "respool"

local N = 600 -- two batches

-- Moves from one store to another. Prints its calls into the core by name; with
-- a name, a number and "before" or "after" it is killed there.
local MOVER = killed.text() .. [[
  local respool = require "respool"
  local core = require "respool.core"
  local from_path, to_path, kind, ahead, blind, name, nth, side =
    (table.unpack or unpack)(arg)
  if blind ~= "" then
    local log = require "respool.transfer.import_log"
    local open = log.open
    log.open = function(...)
      local known = open(...)
      known.has = function() return false end
      return known
    end
  end
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

  local function open(path)
    local store = assert(helper.open(path, { clock = "manual" }))
    return assert(store:queue "orders")
  end

  local function fill(q, kind)
    assert(q:push_many(helper.range(N)))
    if kind == "items" then return end
    assert(q:work(function() return respool.dead() end,
                  { stop_when_empty = true }))
  end

  -- What is in a queue, by payload; it is empty then.
  local function drained(q)
    local times, n = {}, 0
    repeat
      local batch = assert(q:take { limit = 1000 })
      for i = 1, #batch do
        local payload = batch:item(i).payload
        times[payload] = (times[payload] or 0) + 1
        n = n + 1
      end
      batch:done()
      assert(batch:settle())
    until #batch == 0
    return times, n
  end

  local function mover(from, to, kind, blind, ...)
    return helper.spawn(MOVER, from, to, kind, ahead, blind and "blind" or "",
                        ...)
  end

  -- The calls of a move that is not killed: name and how many there are.
  local function calls_of(from, to, kind)
    local child = mover(from, to, kind)
    assert.equal(0, child:wait(), child:output())
    return killed.calls(child:output())
  end

  local WRITES = {
    ["batch.settle"] = true, ["queue.remove_many"] = true,
    ["store.dead_remove"] = true, ["transaction.commit"] = true,
  }

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
    fill(from, kind)
    local child = mover(from.store.path, to.store.path, kind, blind, at[1],
                        at[2], at[3])
    assert.equal(137, child:wait(), child:output())
    wait_for_leases(from, to)
    child = mover(from.store.path, to.store.path, kind, blind)
    assert.equal(0, child:wait(), child:output())
    wait_for_leases(from, to)
    local left = kind == "items" and from:length().ready or from.dead:count()
    assert.equal(0, left, table.concat(at, " "))
    return drained(to)
  end

  for _, way in ipairs { "into", "out of" } do
    for kind, what in pairs { items = "items", dead = "dead letters" } do
      it(("%s the database moves %s once, wherever it is killed")
         :format(way, what), function()
        ahead = 0
        local paths = { helper.dir() .. "/store", (db:url()) }
        if way == "out of" then paths = { paths[2], paths[1] } end
        local from, to = open(paths[1]), open(paths[2])
        fill(from, kind)
        local calls = calls_of(paths[1], paths[2], kind)
        wait_for_leases(from, to)
        assert.equal(N, select(2, drained(to)))
        local n = 0
        for _, at in ipairs(killed.points(calls, WRITES)) do
          local times, total = kill_and_move(at, kind, from, to)
          assert.equal(N, total, table.concat(at, " "))
          for i = 1, N do assert.equal(1, times[i]) end
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
    local from, to = open(helper.dir() .. "/store"), open((db:url()))
    local _, n = kill_and_move({ "transaction.commit", 1, "after" }, "items",
                               from, to, true)
    assert.is_true(n > N)
  end)
end)
