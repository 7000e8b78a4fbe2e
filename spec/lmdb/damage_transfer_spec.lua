-- SPDX-License-Identifier: MIT
--
-- Exports and archives of damaged records.

local helper = require("spec.helper").without_journal()
local respool = require "respool"
local stored = require "spec.helper.stored"
local transfer = require "spec.helper.transfer"

local dead_letters, new_writer = transfer.dead_letters, transfer.writer

describe("respool.export", function()
  it("copies damaged dead letters with their bytes, and counts them", function()
    local q, w = dead_letters(3), new_writer()
    stored.damage(q.store.path, "flip", "dead_letters", 1, -1)
    local counts = assert(respool.export { dlq = q.dead, writer = w })
    assert.same({ 3, 1, { 2 } },
                { counts.written, counts.damaged, counts.damaged_numbers })
    local record = w.batches[1][2]
    assert.is_true(record.damaged)
    assert.is_nil(record.payload)
    assert.equal(q.dead:get(2).bytes, record.bytes)
  end)

  it("does not move a damaged dead letter", function()
    local q, w = dead_letters(3), new_writer()
    stored.damage(q.store.path, "flip", "dead_letters", 1, -1)
    local counts = assert(respool.export {
      dlq = q.dead, remove = true, writer = w,
    })
    assert.same({ 2, 2, 1, 0 }, { counts.written, counts.removed,
                                  counts.damaged, counts.lost })
    assert.equal(2, q.dead:oldest().number)
    assert.equal(1, q.dead:count())
  end)

  it("counts the items of damaged segments, which it cannot copy", function()
    local q, w = helper.store():queue "orders", new_writer()
    for _ = 1, 3 do q:push_many { { n = 1 }, { n = 2 } } end
    stored.damage(q.store.path, "flip", "segments", 1, -1)
    local counts = assert(respool.export { queue = q, writer = w })
    assert.same({ 6, 4, 2, { 3, 4 } },
                { counts.total, counts.written, counts.damaged,
                  counts.damaged_numbers })
  end)
end)

describe("an archive", function()
  it("holds damaged dead letters, which it names, and those behind", function()
    for _, form in ipairs { "json", "cbor" } do
      local q = transfer.queue_of(transfer.upto(5))
      q:work(function() return respool.dead() end,
             { batch = 1, stop_when_empty = true })
      stored.damage(q.store.path, "flip", "dead_letters", 1, -1)
      local w = assert(respool.file_writer(helper.dir(), {
        store = q.store, form = form,
      }))
      assert(respool.export { dlq = q.dead, writer = w })
      local record = assert(respool.file_reader(w.files)):read()[2]
      assert.same({ 2, true, q.dead:get(2).bytes },
                  { record.number, record.damaged, record.bytes })
      local counts, r = transfer.import(w.files)
      assert.same({ "dead letter 2: it is damaged" }, counts.errors)
      assert.same({ 4, 1, 0 }, { counts.pushed, counts.failed, #r.problems })
    end
  end)
end)
