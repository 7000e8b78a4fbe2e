-- SPDX-License-Identifier: MIT
--
-- Imports and moves between stores in databases: who holds the lock on imports,
-- and which stores are the same.

local cli = require "spec.helper.cli"
local database = require "spec.helper.database"
local helper = require "spec.helper"
local respool = require "respool"

local IMPORTER = [[
  local respool = require "respool"
  local store = assert(respool.open(arg[1], { log = false }))
  print(respool.import { to = assert(store:queue "in"), reader = function()
    print "imports"
    while arg[2] == "long" do store.handle:sleep(1) end
  end })
]]

database.describe("between stores in databases", "transfers", function(db)
  local path

  before_each(function() path = db:url() end)

  local function importer(how)
    return helper.spawn(IMPORTER, path, how)
  end

  local function holder()
    local process = importer "long"
    process:expect "imports"
    return process
  end

  it("an import is refused while another goes on, whose process is told",
     function()
    local other = holder()
    local late = importer "short"
    assert.equal(0, late:wait(), late:output())
    assert.matches(("process %d\tLOCKED"):format(other.pid), late:output())
    assert.not_matches("imports\n", late:output())
    other:kill()
  end)

  -- It was refused until the lease had run out, up to a minute.
  it("an import begins at once where another was killed", function()
    for _ = 1, 2 do
      local other = holder()
      assert.equal(137, other:kill())
      local late = importer "short"
      assert.equal(0, late:wait())
      assert.matches("imports\n", late:output())
    end
  end)

  it("an import takes what another machine's left when its lease has run out",
     function()
    local store = assert(helper.open(path))
    local queue = assert(store:queue(".import-lock", { max_lease = "7d" }))
    assert(queue:push("elsewhere 1 1 1 1 1", { key = "lock" }))
    local held = assert(queue:take { lease = 3600 })
    local late = importer "short"
    assert.equal(0, late:wait())
    assert.matches("killed less than a minute ago\tLOCKED", late:output())
    held:release()
    assert(held:close())
    late = importer "short"
    assert.equal(0, late:wait())
    assert.matches("imports\n", late:output())
    assert.equal(0, queue:length().total)
  end)

  it("a move knows a store by another URL", function()
    local from = assert(assert(helper.open(path)):queue "orders")
    local other = path .. "&patience=9"
    local to = assert(assert(helper.open(other)):queue "other")
    assert.error_matches(function()
      local _ = respool.move { queue = from, to = to }
    end, "'to' is a queue of the same store")
    assert.matches("FROM and TO are the same store",
                   cli.run({ "move", path, other, "orders" }).err)
  end)

  it("a move knows a copy of a store, which has its id", function()
    local from = assert(assert(helper.open(path)):queue "orders")
    assert(from:push(1))
    local copy = assert(assert(db:open()):queue "orders")
    db:run(("UPDATE meta SET value = '%s' WHERE name = 'store'")
      :format(from.store:stats().id))
    assert.equal(from.store:stats().id, copy.store:stats().id)
    assert.equal(1, assert(respool.move { queue = from, to = copy }).removed)
    assert.same({ 1 }, helper.payloads(copy))
    assert.same({}, from.store.handle:note_names())
    assert.same({}, from.store:check())
  end)
end)
