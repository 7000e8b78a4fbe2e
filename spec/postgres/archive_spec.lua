-- SPDX-License-Identifier: MIT
--
-- Items and dead letters that leave a directory for files and come from there
-- into a database, and back, while exporter and importer are killed: before and
-- after the first of each kind of call that writes; with FAULT=long every call,
-- and both kinds on both ways. Whoever goes on finds each item in the one
-- store, in the files, or in the other, and in the end each once in the other.
-- The control is an importer that does not look what it imported before.

local carried = require "spec.helper.carried"
local database = require "spec.helper.database"
local helper = require "spec.helper"
local killed = require "spec.helper.killed"

local drained = carried.drained

local COMMON = killed.text() .. [[
  local respool = require "respool"
  local core = require "respool.core"
  local path, files, kind, ahead, blind, name, nth, side =
    (table.unpack or unpack)(arg)
  local calls = killed.watcher(name, nth, side)
  local store = assert(respool.open(path, { clock = "manual", log = false }))
  store:advance(tonumber(ahead))
  local q = assert(store:queue "orders")
]]

local EXPORTER = COMMON .. [[
  calls:watch("store", killed.methods_of(store.handle), "dead_remove")
  calls:watch("queue", killed.methods_of(q.handle), "remove_many")
  calls:watch("batch", core.batch, "settle")
  local writer = assert(respool.file_writer(files, { store = store }))
  calls:watch("file", writer, "flush")
  assert(respool.export {
    queue = kind == "items" and q or nil,
    dlq = kind == "dead" and q.dead or nil, remove = true, writer = writer,
  })
  calls:print()
]]

local IMPORTER = COMMON .. carried.BLIND .. [[
  local tx = assert(store.handle:begin())
  calls:watch("transaction", killed.methods_of(tx), "commit")
  tx:close()
  local archives = assert(require "respool.transfer.files".list(files))
  local reader = assert(respool.file_reader(archives))
  assert(respool.import { to = q, reader = reader })
  assert(#reader.problems == 0, reader.problems[1])
  calls:print()
]]

database.describe("an archive between a directory and a database", "archived",
                  function(db)
  local ahead

  local function play(what, q, files, kind, blind, at)
    at = at or {}
    local child = helper.spawn(what, q.store.path, files, kind, ahead,
                               blind and "blind" or "", at[1], at[2], at[3])
    assert.equal(at[1] and 137 or 0, child:wait(), child:output())
    return killed.calls(child:output())
  end

  -- Locks and leases of whoever was killed run out, items that it had put off
  -- are due.
  local function wait_for_leases(...)
    ahead = ahead + 1000
    for _, q in ipairs { ... } do q.store:advance(1000) end
  end

  -- Takes all from one store to the other, killed at a point of one of them.
  local function carry(from, to, kind, what, at, blind)
    local files = helper.dir() .. "/files"
    carried.fill(from, kind)
    if what == EXPORTER then
      play(EXPORTER, from, files, kind, false, at)
      wait_for_leases(from, to)
    end
    local calls = { play(EXPORTER, from, files, kind) }
    if what == IMPORTER then
      play(IMPORTER, to, files, kind, blind, at)
      wait_for_leases(from, to)
    end
    calls[2] = play(IMPORTER, to, files, kind, blind)
    wait_for_leases(from, to)
    carried.assert_left(kind, from, at or {})
    return calls, drained(to)
  end

  local WAYS = { ["into"] = { items = "items" },
                 ["out of"] = { dead = "dead letters" } }
  if os.getenv "FAULT" == "long" then
    WAYS["into"].dead, WAYS["out of"].items = "dead letters", "items"
  end

  for way, kinds in pairs(WAYS) do
    for kind, what in pairs(kinds) do
      it(("takes %s %s the database once, wherever one is killed")
         :format(what, way), function()
        ahead = 0
        local from, to = carried.pair(way, db)
        local calls, times, total = carry(from, to, kind)
        carried.assert_once({}, times, total)
        local n = 0
        for i, who in ipairs { EXPORTER, IMPORTER } do
          for _, at in ipairs(killed.points(calls[i], carried.WRITES)) do
            local _, again, all = carry(from, to, kind, who, at)
            carried.assert_once(at, again, all)
            n = n + 1
          end
        end
        assert.is_true(n >= 6)
        assert.same({}, from.store:check())
        assert.same({}, to.store:check())
      end)
    end
  end

  it("of an importer that does not look what it has is found out", function()
    ahead = 0
    local from, to = carried.pair("into", db)
    local _, _, n = carry(from, to, "items", IMPORTER,
                          { "transaction.commit", 1, "after" }, true)
    assert.is_true(n > carried.N)
  end)
end)
