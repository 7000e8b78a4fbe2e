-- SPDX-License-Identifier: MIT
--
-- Progress of items that are worked on.

local core = require "respool.core"
local helper = require "spec.helper"
local queue_of = require "spec.helper.queue"
local code = helper.code

local t

before_each(function() t = queue_of.new() end)

local it = helper.checked(it)

local function taken(n)
  local list = {}
  for i = 1, n or 1 do list[i] = i end
  local first = assert(t.q:push_many(list))
  return assert(t.q:take { limit = n or 1 }), first
end

-- The progress shown of an item: its part and its text.
local function shown(id)
  local progress = assert(t.q:get(id)).progress
  if not progress then return nil end
  assert.equal(t.store:now(), progress.at)
  return { progress.done, progress.text }
end

describe("item:progress", function()
  it("is shown with the item", function()
    local batch, id = taken()
    assert.is_nil(shown(id))
    assert.is_true(batch[1]:progress(0.4, "two of five"))
    assert.same({ 0.4, "two of five" }, shown(id))
    for item in t.q:each { state = "leased" } do
      assert.equal(0.4, item.progress.done)
    end
    assert.is_nil(t.q:get(assert(t.q:push "other")).progress)
    batch:close()
  end)

  it("may be a part or a text alone", function()
    local batch, first = taken(2)
    assert.is_true(batch[1]:progress(0))
    assert.is_true(batch[2]:progress(nil, "soon"))
    assert.same({ 0 }, shown(first))
    local progress = t.q:get(first + 1).progress
    assert.same({ nil, "soon" }, { progress.done, progress.text })
    batch:close()
  end)

  it("keeps the last report", function()
    local batch, id = taken()
    assert.is_true(batch[1]:progress(0.1, "a"))
    t.store:advance(1)
    assert.is_true(batch[1]:progress(0.2))
    assert.same({ 0.2 }, shown(id))
    batch:close()
  end)

  it("is stored once a second, and when all is done", function()
    local batch, id = taken()
    local before = t.store:stats().last_txn
    for i = 0, 9999 do assert.is_true(batch[1]:progress(i / 10000)) end
    assert.same({ 0 }, shown(id))
    for _ = 1, 1000 do assert.is_true(batch[1]:progress(1)) end
    assert.same({ 1 }, shown(id))
    if helper.engine == "lmdb" then
      assert.equal(before + 2, t.store:stats().last_txn)
    end
    batch:close()
  end)

  it("is gone with the settle", function()
    local batch, id = taken()
    assert.is_true(batch[1]:progress(0.4))
    batch[1]:retry { delay = 0 }
    assert(batch:settle())
    assert.is_nil(t.q:get(id).progress)
    batch = assert(t.q:take())
    assert.is_nil(t.q:get(id).progress)
    assert.is_true(batch[1]:progress(0.1))
    assert.same({ 0.1 }, shown(id))
    batch:close()
  end)

  -- In nginx each removal yields, and handlers of other items go on.
  it("may come while those of settled items are removed", function()
    local batch, first = taken(60)
    for i = 10, 40, 10 do
      assert.is_true(batch[i]:progress(0.4))
      batch[i]:done()
    end
    local methods = core.methods "respool.queue"
    local report, other = methods.item_progress, 40
    finally(function() methods.item_progress = report end)
    function methods.item_progress(handle, id, lease, done, text)
      if not done then
        for _ = 1, 4 do
          other = other + 1
          assert.is_true(batch[other]:progress(0.1))
        end
      end
      return report(handle, id, lease, done, text)
    end
    assert(batch:settle())
    methods.item_progress = report
    assert.equal(56, other)
    assert.same({ 0.1 }, shown(first + other - 1))
    batch:close()
  end)

  it("is that of the present lease", function()
    local old, id = taken()
    assert.is_true(old[1]:progress(0.9))
    t.store:advance(3600)
    assert.is_nil(t.q:get(id).progress)
    local new = assert(t.q:take())
    assert.is_nil(t.q:get(id).progress)
    assert.is_true(new[1]:progress(0.2))
    assert.equal("LEASE_LOST", code(old[1]:progress(1)))
    assert.is_true(old[1]:cancelled())
    assert.same({ 0.2 }, shown(id))
    new:close()
    old:close()
  end)

  it("says that the item was cancelled or settled", function()
    local batch, first = taken(2)
    assert.is_true(t.q:cancel(first))
    assert.equal("LEASE_LOST", code(batch[1]:progress(0.5)))
    assert.equal("LEASE_LOST", code(batch[1]:progress(0.5))) -- each time
    batch[2]:done()
    assert(batch:settle())
    assert.equal("LEASE_LOST", code(batch[2]:progress(0.5)))
    batch:close()
  end)

  it("cuts a long text at a whole character", function()
    local batch, id = taken()
    assert.is_true(batch[1]:progress(0.5, ("ä"):rep(1000)))
    assert.equal(("ä"):rep(127), t.q:get(id).progress.text)
    batch:close()
  end)

  it("takes a number from 0 to 1, a text, or both", function()
    local batch = taken()
    for _, wrong in ipairs { -0.1, 1.1, 0 / 0, "1", {} } do
      assert.error_matches(function() batch[1]:progress(wrong) end,
                           "a number from 0 to 1 expected")
    end
    assert.error_matches(function() batch[1]:progress(0.5, 7) end,
                         "string expected")
    assert.error_matches(function() batch[1]:progress() end,
                         "item:progress: give a number from 0 to 1, or a text")
    batch:close()
  end)

  it("is of a queue of any name", function()
    local names = { ("q"):rep(255), ("q"):rep(254) .. "r" }
    for i, name in ipairs(names) do
      local q = assert(t.store:queue(name))
      assert(q:push(i))
      local batch = assert(q:take())
      assert.is_true(batch[1]:progress(i / 10))
      assert.equal(i / 10, q:get(batch[1].id).progress.done)
      batch:close()
    end
  end)

  it("is shown with its worker, the last report of a lease", function()
    local seen
    assert(t.q:push_many { 1, 2 })
    assert(t.q:work(function(n, item)
      assert.is_true(item:progress(n / 10, "no " .. n))
      seen = t.store:workers()[1].leases
      t.store:advance(1)
    end, { stop_when_empty = true, batch = 2 }))
    assert.equal(1, #seen)
    local progress = seen[1].progress
    assert.same({ 0.2, "no 2", seen[1].id + 1 },
                { progress.done, progress.text, progress.id })
  end)

  -- Only a store in files tells its commits.
  it("is removed by maintenance where its lease has ended", function()
    assert(t.store:maintain()) -- which takes samples now and then
    local batch, first = taken(2)
    for i = 1, 2 do
      assert.is_true(batch[i]:progress(0.5))
      assert.is_true(t.q:cancel(first + i - 1))
    end
    batch:close()
    local commits = t.store:stats().last_txn
    assert(t.store:maintain())
    assert.equal(commits + 2, t.store:stats().last_txn)
    assert(t.store:maintain())
    assert.equal(commits + 2, t.store:stats().last_txn)
  end)
end)
