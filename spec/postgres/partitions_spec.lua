-- SPDX-License-Identifier: MIT
--
-- Partitions are kept in stores of files only: a store in a database refuses
-- each way to make one, and keeps what it has.

local database = require "spec.helper.database"
local helper = require "spec.helper"

describe("a store in a database", function()
  if not database.installed() then
    pending "needs the package postgresql"
    return
  end

  local db

  setup(function() db = database.start "parted" end)
  teardown(database.stop)

  it("refuses partitions in one line", function()
    local store = assert(helper.open((db:url())))
    local q = assert(store:queue "orders")
    local p = { partition = "a" }
    for what, try in pairs {
      push = function() return q:push(1, p) end,
      push_many = function() return q:push_many({ 1, 2 }, p) end,
      transaction = function()
        return store:transaction(function(tx) tx:push(q, 1, p) end)
      end,
      hold = function() return q:hold(1, p) end,
      list = function() return q:partitions() end,
      policy = function()
        return store:queue("orders", { partitions = { concurrency = 1 } })
      end,
    } do
      local ok, message = pcall(try)
      assert.is_false(ok, what)
      assert.matches("partitions are kept in stores of files only", message)
    end
    assert.equal(0, q:stats().pushed)
    assert.equal(0, q:stats().partitions)
    store:close()
  end)
end)
