-- SPDX-License-Identifier: MIT

local helper = require "spec.helper"
local respool = require "respool"

local store, q, dir

before_each(function()
  store, dir = helper.store(), helper.dir()
  q = assert(store:queue("orders", { max_attempts = 1 }))
end)

-- Exports with these options of the writer, `n` times, a second apart; the
-- writers.
local function export(n, o, source)
  local writers = {}
  for i = 1, n do
    local given = { store = store }
    for name, value in pairs(o) do given[name] = value end
    local w = assert(respool.file_writer(dir, given))
    local what = source or { queue = q }
    what.writer = w
    assert(respool.export(what))
    writers[i] = w
    store:advance(1)
  end
  return writers
end

local function files()
  return tonumber(helper.sh(("ls %s | wc -l"):format(dir)))
end

describe("export files", function()
  it("are all kept unless asked otherwise", function()
    q:push(1)
    export(4, {})
    assert.equal(4, files())
  end)

  it("are kept by number, the newest", function()
    q:push(1)
    local writers = export(5, { keep_files = 2 })
    assert.equal(2, files())
    assert.same({ writers[3].files[1] }, writers[5].removed)
  end)

  it("are kept by age", function()
    q:push(1)
    export(5, { keep_for = 2.5, gzip = true })
    assert.equal(3, files())
  end)

  it("of others stay: of DLQs, of stores, and what is no archive", function()
    q:push_many { 1, 2 }
    q:work(function() error "no" end, { limit = 1 })
    helper.write(dir .. "/orders-notes.jsonl", "mine")
    export(2, {}, { dlq = q.dead })
    local other = assert(helper.store():queue "orders")
    other:push(1)
    local w = assert(respool.file_writer(dir, { store = other.store }))
    assert(respool.export { queue = other, writer = w })
    export(3, { keep_files = 1 })
    assert.equal(1 + 2 + 1 + 1, files())
  end)

  it("refuse bounds that would keep none", function()
    assert.error_matches(function()
      respool.file_writer(dir, { store = store, keep_files = 0 })
    end, "'keep_files' must be")
  end)
end)
