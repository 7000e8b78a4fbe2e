-- SPDX-License-Identifier: MIT
--
-- Weighted priorities: shares instead of strict priority.

local queue_of = require "spec.helper.queue"

local t

local function queue(weights)
  t:queue { weights = weights }
end

local function fill(n, ...)
  for _, priority in ipairs { ... } do
    local list = {}
    for i = 1, n do list[i] = ("%d:%d"):format(priority, i) end
    assert(t.q:push_many(list, { priority = priority }))
  end
end

-- Takes `n` items, `size` at a time, and counts them by priority.
local function shares(n, size)
  local counts, taken = {}, 0
  while taken < n do
    local batch = assert(t.q:take { limit = math.min(size, n - taken) })
    assert.is_true(#batch > 0)
    for i = 1, #batch do
      local priority = batch:item(i).priority
      counts[priority] = (counts[priority] or 0) + 1
    end
    taken = taken + #batch
    batch:done()
    assert(batch:settle())
  end
  return counts
end

before_each(function() t = queue_of.in_store { sync = "relaxed" } end)

describe("priorities with weights", function()
  it("share a take", function()
    queue { [9] = 5, [0] = 1 }
    fill(600, 9, 0)
    assert.same({ [9] = 500, [0] = 100 }, shares(600, 600))
  end)

  it("share many takes of one item", function()
    queue { [9] = 5, [0] = 1 }
    fill(100, 9, 0)
    assert.same({ [9] = 50, [0] = 10 }, shares(60, 1))
  end)

  it("share takes of any size", function()
    queue { [9] = 5, [5] = 2, [0] = 1 }
    fill(200, 9, 5, 0)
    assert.same({ [9] = 100, [5] = 40, [0] = 20 }, shares(160, 7))
  end)

  it("leave no priority unserved for long", function()
    queue { [9] = 5, [0] = 1 }
    fill(50, 9, 0)
    for _ = 1, 8 do assert.equal(1, shares(6, 1)[0]) end
  end)

  it("give a priority without a name the weight 1", function()
    queue { [9] = 3 }
    fill(100, 9, 4)
    assert.same({ [9] = 60, [4] = 20 }, shares(80, 4))
  end)

  it("give what one priority has not to the others", function()
    queue { [9] = 5, [0] = 1 }
    fill(100, 0)
    assert.same({ [0] = 50 }, shares(50, 10))
    fill(3, 9)
    local counts = shares(53, 10)
    assert.same({ [9] = 3, [0] = 50 }, counts)
  end)

  it("keep the order within a priority", function()
    queue { [9] = 2, [0] = 1 }
    fill(30, 9, 0)
    local last = {}
    t.q:work(function(payload)
      local priority, i = payload:match "(%d+):(%d+)"
      assert.is_true(tonumber(i) > (last[priority] or 0))
      last[priority] = tonumber(i)
    end, { stop_when_empty = true, batch = 4 })
    assert.same({ ["9"] = 30, ["0"] = 30 }, last)
    assert.same({}, t.store:check())
  end)

  it("are kept in the store, and given up when told", function()
    queue { [9] = 5, [0] = 1 }
    assert.same({ [9] = 5, [0] = 1 }, t.store:queue "orders":config().weights)
    queue {}
    assert.same({}, t.q:config().weights)
    fill(20, 9, 0)
    assert.same({ [9] = 20 }, shares(20, 3))
  end)

  it("are strict when there are none", function()
    queue()
    assert.same({}, t.q:config().weights)
    fill(20, 9, 0)
    assert.same({ [9] = 20, [0] = 5 }, shares(25, 4))
  end)

  it("refuse what are none", function()
    local many = {}
    for i = 1, 17 do many[i] = 1 end
    for _, weights in ipairs { 5, "5", { [256] = 1 }, { [-1] = 1 }, { a = 1 },
                             { [1] = 0 }, { [1] = 1001 }, { [1] = 1.5 },
                             many } do
      assert.error_matches(function() queue(weights) end,
                           "option 'weights' must be weights of 1 to 1000")
    end
  end)
end)
