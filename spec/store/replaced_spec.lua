-- SPDX-License-Identifier: MIT
--
-- The store is what its path says (guarantee 12): one that was deleted or
-- replaced while it was open answers IO, and does nothing to the files in its
-- place. Pushes used to be acknowledged and lost.

local helper = require "spec.helper"

local path, store, queue

before_each(function()
  path = helper.location()
  store = assert(helper.open(path))
  queue = assert(store:queue "orders")
  assert(queue:push "old")
end)

local function refused(ok, message, code)
  assert.is_nil(ok)
  assert.equal("IO", code)
  assert.matches("while it was open: close it, and open it again", message)
  return message
end

-- A second is the promise; a look is due after half of one.
local function soon() helper.sh "sleep 0.6" end

local function assert_all_refused()
  refused(queue:push "lost")
  soon()
  refused(store:flush())
  refused(queue:take())
  refused(queue:peek())
  refused(queue:stats())
  refused(store:queues())
end

-- A store that another process makes here, with an item "new".
local function make_other(at)
  local process = helper.spawn([[
    local store = assert(require "respool".open(arg[1]))
    assert(store:queue "orders":push "new")
    store:close()
  ]], at)
  assert.equal(0, process:wait())
end

-- Moves the other store's data here, beside the lock file of this one.
local function replace_data()
  helper.sh(("rm -f '%s/journal'; mv '%s.other/data.mdb' '%s.other/journal' " ..
             "'%s'"):format(path, path, path, path))
end

local function sum()
  return helper.sh(("cat '%s/data.mdb' | cksum"):format(path))
end

local function assert_new()
  local other = assert(helper.open(path))
  assert.same({ "new" }, helper.payloads(other:queue "orders"))
  assert.same({}, other:check())
  assert(other:queue "orders":push "newer")
  other:close()
end

describe("a store that was deleted", function()
  it("refuses every call", function()
    helper.sh(("rm -r '%s'"):format(path))
    assert.matches("was deleted", refused(queue:push "lost"))
    assert_all_refused()
  end)

  it("refuses them also when only its files were deleted", function()
    for _, name in ipairs { "data.mdb", "lock.mdb" } do
      helper.sh(("rm '%s/%s'"):format(path, name))
      assert_all_refused()
      store:close()
      helper.sh(("rm -f '%s'/*"):format(path))
      store = assert(helper.open(path))
      queue = assert(store:queue "orders")
    end
  end)

  it("is noticed by a take that waits", function()
    assert(queue:take()):close()
    queue:pause()
    helper.sh(("(sleep 0.1; rm -r '%s') >/dev/null 2>&1 &"):format(path))
    refused(queue:take { timeout = 60 })
  end)

  it("is unhealthy", function()
    helper.sh(("rm -r '%s'"):format(path))
    soon()
    assert.equal("unhealthy", store:health().status)
  end)

  it("is there again when its files are", function()
    helper.sh(("mv '%s' '%s.away'"):format(path, path))
    soon() -- a push that comes sooner is in the store, wherever that is
    refused(queue:push "lost")
    helper.sh(("mv '%s.away' '%s'"):format(path, path))
    assert(queue:push "after")
    assert.same({ "old", "after" }, helper.payloads(queue))
  end)
end)

describe("a store that was replaced", function()
  it("leaves the new one in its place alone", function()
    helper.sh(("rm -r '%s'"):format(path))
    make_other(path)
    local before = sum()
    assert.matches("was replaced", refused(queue:push "lost"))
    assert_all_refused()
    refused(store:close())
    assert.equal(before, sum())
    assert_new()
  end)

  it("does so where only the data file was replaced", function()
    make_other(path .. ".other")
    replace_data()
    local before = sum()
    assert_all_refused()
    assert.equal(before, sum())
    assert_new() -- while the old one is still open in this process
    store:close()
    local other = assert(helper.open(path))
    assert.same({ "new", "newer" }, helper.payloads(other:queue "orders"))
  end)

  it("holds no locks on it", function()
    make_other(path .. ".other")
    replace_data()
    refused(queue:push "lost")
    make_other(path)
    assert.equal(2, #helper.payloads(assert(helper.open(path)):queue "orders"))
  end)

  -- Its lock file tells of the commits of the other data.
  it("is not opened over the lock file of one that is in use", function()
    for _ = 1, 9 do queue:push "old" end
    make_other(path .. ".other")
    replace_data()
    local before = sum()
    local process = helper.spawn([[
      print(select(3, require "respool".open(arg[1])))
    ]], path)
    process:wait()
    assert.equal("BUSY\n", process:output())
    assert.equal(before, sum())
  end)

  it("may be closed after a buffer could not be flushed", function()
    local said = {}
    local buffered = assert(helper.open(path, {
      log = function(_, message) said[#said + 1] = message end,
    })):queue("orders", { buffer = { items = 100 } })
    assert(buffered:push "buffered")
    helper.sh(("rm -r '%s'"):format(path))
    make_other(path)
    refused(buffered:flush())
    buffered.store:close()
    assert.matches("was replaced while it was open", table.concat(said, "\n"))
    assert_new()
  end)
end)

