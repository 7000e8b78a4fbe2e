-- SPDX-License-Identifier: MIT

local helper = require "spec.helper"
local respool = require "respool"

describe("an outcome's function that is returned uncalled", function()
  -- It counted as done: the item was gone.
  for _, name in ipairs { "retry", "dead", "drop", "snooze", "release" } do
    it("is a failure that says so: " .. name, function()
      local q = assert(helper.store():queue("orders", { max_attempts = 1 }))
      q:push(1)
      q:work(function() return respool[name] end, { stop_when_empty = true })
      assert.equal(("the handler returned the function respool.%s: call it, "
        .. "respool.%s()"):format(name, name), q.dead:oldest().error)
    end)
  end

  it("is one in a chain and in a fan-out, too", function()
    local q = assert(helper.store():queue("orders", { max_attempts = 1 }))
    local function wrong() return respool.dead end
    for _, handler in ipairs { respool.chain(wrong, function() end),
                               respool.fan_out { a = wrong } } do
      q:push(1)
      q:work(handler, { stop_when_empty = true })
    end
    for letter in q.dead:each() do
      assert.matches("returned the function respool.dead", letter.error)
    end
    assert.equal(2, q.dead:count())
  end)
end)
