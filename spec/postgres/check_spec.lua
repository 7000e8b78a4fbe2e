-- SPDX-License-Identifier: MIT
--
-- The check of a store in a database finds each kind of record that was changed
-- behind its back, by its checksum or by an invariant, and names it.

local database = require "spec.helper.database"
local respool = require "respool"

database.describe("the check of a store in a database", "checked", function(db)
  local store, queue

  -- Something of everything: items fresh, leased and finished, dead letters, a
  -- named replay, a key, a breaker.
  before_each(function()
    store = db:open()
    queue = assert(store:queue("orders", {
      keep_done = 600, breaker = true, rate = { items = 100 },
    }))
    for i = 1, 2 do assert(queue:push("dies " .. i)) end
    queue:work(function() return respool.dead() end, { limit = 2 })
    assert(queue.dead:replay { name = "fix", limit = 1 })
    queue:work(function() end, { limit = 1 })
    assert(queue:push("keyed", { key = "k" }))
    assert(queue:push "leased")
    assert(queue:take())
  end)

  -- After this statement there is one finding, with these words.
  local function finds(words, statement)
    assert.same({}, store:check())
    local said = db:run(statement)
    assert.equal("", said)
    local findings = assert(store:check())
    assert.equal(1, #findings, table.concat(findings, "\n"))
    assert.matches(words, findings[1])
  end

  local function flips(column)
    return (" SET %s = set_byte(%s, octet_length(%s) - 1, " ..
      "get_byte(%s, octet_length(%s) - 1) # 1)")
      :format(column, column, column, column, column)
  end

  for what, of in pairs {
    ["^item %d+: its checksum"] = "run" .. flips "bytes"
      .. " WHERE state = 1",
    ["^history: item %d+: its checksum"] = "history" .. flips "bytes",
    ["^dead letter 2 of DLQ 'orders': its checksum"] =
      "dead" .. flips "record",
    ["^named replay 'fix': its checksum"] = "replay" .. flips "record",
    ["^queue 'orders': 2 items, its counters say"] =
      "tally SET pushed = pushed + 1 WHERE pushed > 0",
    ["^queue 'orders': %d+ bytes, its counters"] =
      "tally SET bytes = bytes + 1 WHERE pushed > 0",
    ["^DLQ 'orders': 1 dead letters of %d+ bytes, its counters say 2 "] =
      "dlq SET count = 2",
    ["^a key of queue 1 is held by item"] = "held SET item = 1",
    ["^flow of queue 1: .* breaker 1"] =
      "flow SET breaker = 1, failures = '{1}'",
    ["^run %d+: state 1, .* epoch 0"] = "run SET epoch = 0 WHERE state = 1",
    ["^run %d+: token %d+ was not given out yet"] =
      "run SET epoch = 1000000::bigint << 20 WHERE state = 1",
    ["^run %d+: its priority 3 is not one"] =
      "run SET priority = 3 WHERE state = 1",
  } do
    it("finds: UPDATE " .. of:gsub(" SET .*", "") .. ", " .. what, function()
      finds(what, "UPDATE " .. of)
    end)
  end
end)
