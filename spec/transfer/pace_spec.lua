-- SPDX-License-Identifier: MIT
--
-- Exports by bytes; imports at a pace, held back by the target's fill, and at
-- an interval.

local helper = require "spec.helper"
local respool = require "respool"
local transfer = require "spec.helper.transfer"

local reader, writer = transfer.reader, transfer.writer

local function exported(n, options)
  local q, w = helper.store():queue("orders", { codec = "raw" }), writer()
  for i = 1, n do q:push(("%04d"):format(i) .. ("x"):rep(996)) end
  local o = { queue = q, writer = w }
  for name, value in pairs(options or {}) do o[name] = value end
  assert(respool.export(o))
  return w, q
end

local function target(options)
  local o = { codec = "raw" }
  for name, value in pairs(options or {}) do o[name] = value end
  return helper.store():queue("in", o)
end

describe("an export by bytes", function()
  local function sizes(o)
    local list = {}
    o.writer = function(batch) list[#list + 1] = #batch end
    exported(10, o)
    return list
  end

  it("ends a batch with the record that brings it to so many", function()
    assert.same({ 3, 3, 3, 1 }, sizes { bytes = 2500 })
    assert.same({ 2, 2, 2, 2, 2 }, sizes { bytes = "2KB" })
    assert.same({ 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 }, sizes { bytes = 1 })
    assert.same({ 2, 2, 2, 2, 2 }, sizes { bytes = 2500, batch = 2 })
  end)

  it("moves each record once", function()
    local q = helper.store():queue("orders", { codec = "raw" })
    for _ = 1, 10 do q:push(("x"):rep(1000)) end
    local counts = assert(respool.export {
      queue = q, remove = true, bytes = 2500, writer = function() end,
    })
    assert.same({ 10, 10, 4 }, { counts.written, counts.removed,
                                 counts.batches })
    assert.equal(0, q:length().total)
  end)

  it("refuses what is no size", function()
    assert.error_matches(function()
      respool.export { queue = target(), bytes = 0, writer = print }
    end, "respool.export: option 'bytes' must be")
  end)
end)

describe("an import with a rate", function()
  it("goes at an even pace", function()
    local w, to = exported(100), target()
    local began, counts = to.store:now(), {}
    assert(respool.import { to = to, reader = reader(w), rate = 20 })
    assert.near(5, to.store:now() - began, 0.2)
    for item in to:each() do
      local second = math.floor(item.pushed_at - began)
      counts[second] = (counts[second] or 0) + 1
    end
    for second = 0, 4 do assert.near(20, counts[second], 2) end
  end)

  it("stops when on_progress says so", function()
    local w, to, calls = exported(100), target(), 0
    local counts = assert(respool.import {
      to = to, reader = reader(w), rate = 10, on_progress = function()
        calls = calls + 1
        return calls < 5
      end,
    })
    assert.is_true(counts.pushed > 0 and counts.pushed < 100, counts.pushed)
    assert.equal(counts.pushed, to:length().ready)
    assert(respool.import { to = to, reader = reader(w) })
    assert.equal(100, to:length().ready)
  end)
end)

describe("an import with while_below", function()
  it("waits while the target is fuller, and for room", function()
    local w, to, most = exported(30), target { max_items = 10 }, 0
    local counts = assert(respool.import {
      to = to, reader = reader(w), while_below = 0.5,
      on_progress = function()
        most = math.max(most, to:length().ready)
        local batch = to:take { limit = 3 }
        for i = 1, #batch do batch:item(i):done() end
        batch:close()
      end,
    })
    assert.same({ 30, 0 }, { counts.pushed, counts.failed })
    assert.is_true(most <= 10)
  end)

  it("is FULL without it", function()
    local w, to = exported(30), target { max_items = 10 }
    local counts, _, code = respool.import { to = to, reader = reader(w) }
    assert.same({ nil, "FULL" }, { counts, code })
  end)
end)

describe("an import at an interval", function()
  it("asks the reader again", function()
    local w, to, rounds = exported(3), target(), 0
    local read = reader(w)
    local began = to.store:now()
    local counts = assert(respool.import {
      to = to, interval = "10s", reader = function()
        local batch = read()
        if batch == nil then
          rounds, read = rounds + 1, reader(w)
        end
        return batch
      end, on_progress = function() return rounds < 3 end,
    })
    assert.same({ 3, 3 }, { counts.pushed, rounds })
    assert.is_true(to.store:now() - began >= 20)
    assert.is_true(counts.known >= 6)
  end)

  it("refuses what is wrong", function()
    for name, value in pairs { rate = 0, while_below = 2, interval = 0 } do
      assert.error_matches(function()
        respool.import { to = target(), reader = print, [name] = value }
      end, "respool.import: option '" .. name .. "' must be")
    end
  end)
end)
