-- SPDX-License-Identifier: MIT
--
-- Two builds of different versions on one store, which know another layout of
-- what processes share in memory: the second to come is refused while the first
-- has it open, and one after the other they work on the same items.

local helper = require "spec.helper"
local respool = require "respool"

local store, q, pipe

before_each(function()
  store = assert(helper.open(helper.dir() .. "/store"))
  q = assert(store:queue "orders")
  for n = 1, 5 do assert(q:push(n)) end
  assert(io.open(store.path .. "/journal")):close()
end)

-- The other build, and what it says first.
local function other()
  pipe = helper.dir() .. "/pipe"
  helper.sh("mkfifo " .. pipe)
  local child = helper.spawn([[
    os.execute(("exec '%s/spec/other_build' '%s' '%s'"):format(...))
  ]], os.getenv "RESPOOL_BUILD", store.path, pipe)
  child:expect "\n"
  return child, child:output()
end

local function work(child)
  helper.write(pipe, "go\n")
  child:wait()
  return child:output()
end

describe("a build of another version", function()
  it("is refused while the store is open, and harms nothing", function()
    local batch = assert(q:take { limit = 2 })
    local child, said = other()
    child:wait()
    assert.matches("^refused VERSION: .*is open in a program with another "
      .. "version of respool: close it there", said)
    batch[1]:done()
    assert(batch:settle())
    batch:close()
    assert.same({ 4, 1 }, { q:length().ready, q:stats().done })
    assert.same({}, store:check())
  end)

  it("that is there first is told of, and is not disturbed", function()
    store:close()
    local child, said = other()
    assert.equal("open\n", said)
    local none, message, code = helper.open(store.path)
    assert.is_nil(none)
    assert.equal("VERSION", code)
    assert.matches("another version of respool: close it there", message)
    assert.matches("5 ready, 1 done", work(child))
  end)

  it("works on the same items, one after the other", function()
    for turn = 1, 3 do
      store:close()
      local child = other()
      assert.matches(("5 ready, %d done"):format(2 * turn - 1), work(child))
      store = assert(helper.open(store.path))
      q = assert(store:queue "orders")
      local batch = assert(q:take())
      batch:done()
      assert(batch:settle())
      assert(q:push(turn))
    end
    local seen = {}
    for item in q:each() do seen[#seen + 1] = item.payload end
    assert.same({ 1, "other", 2, "other", 3 }, seen)
    assert.same({}, store:check())
  end)
end)

describe("a store that a build without recent changes has left", function()
  local stored = require "spec.helper.stored"

  before_each(function()
    store = helper.store()
    q = assert(store:queue("orders", { codec = "raw" }))
    q:push_many { "a", "b", "c" }
    local batch = assert(q:take { limit = 2 })
    batch[1]:done()
    batch[2]:retry { delay = 60 }
    assert(batch:settle())
    assert(store:close())
    stored.damage(store.path, "older", "state")
  end)

  local function look(at)
    store = at
    q = assert(store:queue("orders", { codec = "raw" }))
    assert.same({ 1, 1 }, { q:length().ready, q:length().retrying })
    assert.same({}, store:check())
  end

  it("is read and written like any other", function()
    look(assert(helper.open(store.path, { clock = "manual" })))
    assert(q:push "d")
    store:advance(61)
    assert.equal(3, q:length().ready)
  end)

  it("is to be opened for writing once", function()
    local none, message, code = helper.open(store.path, { read_only = true })
    assert.is_nil(none)
    assert.equal("VERSION", code)
    assert.matches("open it for writing once, as respool maintain does",
                   message)
    assert(helper.open(store.path)):close()
    look(assert(helper.open(store.path, { read_only = true })))
  end)

  it("is repaired", function()
    local to = helper.location()
    local done = assert(respool.repair(store.path, to))
    look(assert(helper.open(to, { clock = "manual" })))
    assert.same({ 0, 0 }, { done.lost_items, done.damaged_pages })
    assert.equal(0, #done.findings)
  end)
end)
