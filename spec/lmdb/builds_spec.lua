-- SPDX-License-Identifier: MIT
--
-- Two builds of different versions on one store, which know another layout of
-- what processes share in memory: the second to come is refused while the first
-- has it open, and one after the other they work on the same items.

local helper = require "spec.helper"

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
