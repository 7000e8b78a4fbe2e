-- SPDX-License-Identifier: MIT
--
-- What the specs share that carry items and dead letters between a directory
-- and a database while whoever carries them is killed.

local assert = require "luassert"
local helper = require "spec.helper"
local respool = require "respool"

local M = {
  N = 600, -- items: two batches
  WRITES = { -- calls that write
    ["batch.settle"] = true, ["queue.remove_many"] = true,
    ["file.flush"] = true, ["store.dead_remove"] = true,
    ["transaction.commit"] = true,
  },
}

-- In a child: if `blind` is a word, an import does not look what it imported
-- before.
M.BLIND = [[
  if blind ~= "" then
    local log = require "respool.transfer.import_log"
    local open = log.open
    log.open = function(...)
      local known = open(...)
      known.has = function() return false end
      return known
    end
  end
]]

function M.open(path)
  local store = assert(helper.open(path, { clock = "manual" }))
  return assert(store:queue "orders")
end

-- The queues of a store in a directory and of one in a database: from, to.
function M.pair(way, db)
  local paths = { helper.dir() .. "/store", (db:url()) }
  if way == "out of" then paths = { paths[2], paths[1] } end
  return M.open(paths[1]), M.open(paths[2])
end

function M.fill(q, kind)
  assert(q:push_many(helper.range(M.N)))
  if kind == "items" then return end
  assert(q:work(function() return respool.dead() end,
                { stop_when_empty = true }))
end

-- How often each payload is in a queue, and how many there are; it is empty
-- then.
function M.drained(q)
  local times, n = {}, 0
  repeat
    local batch = assert(q:take { limit = 1000 })
    for payload in batch:each() do
      times[payload] = (times[payload] or 0) + 1
      n = n + 1
    end
    batch:done()
    assert(batch:settle())
  until #batch == 0
  return times, n
end

function M.assert_left(kind, q, at)
  local left = kind == "items" and q:length().ready or q.dead:count()
  assert.equal(0, left, table.concat(at, " "))
end

function M.assert_once(at, times, n)
  assert.equal(M.N, n, table.concat(at, " "))
  for i = 1, M.N do assert.equal(1, times[i]) end
end

return M
