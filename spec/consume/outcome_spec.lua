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

describe("an error that is a table without a message", function()
  -- It was kept as "table: 0x55d0c0ffee".
  it("is told by its plain fields", function()
    local q = assert(helper.store():queue("orders", { max_attempts = 1 }))
    for _, err in ipairs { { code = 500, url = "a" }, {}, { list = {} },
                           print, setmetatable({}, {}) } do
      q:push(1)
      q:work(function() error(err) end, { stop_when_empty = true })
    end
    local said = {}
    for letter in q.dead:each() do said[#said + 1] = letter.error end
    assert.equal("{code=500, url=a}", said[1])
    for i, kind in ipairs { "table", "table", "function", "table" } do
      assert.equal("an error without text, a " .. kind, said[1 + i])
    end
  end)
end)

describe("queue:push_many", function()
  it("names what it refuses", function()
    local q = assert(helper.store():queue "orders")
    assert.error_matches(function() q:push_many {} end, "list .* is empty")
    assert.error_matches(function() q:push_many { 1, nil, 3 } end,
                         "queue:push_many: payload 2 of 3 is nil")
    for key, list in pairs { to = { 1, to = 2 }, ["0"] = { [0] = 1, 2 } } do
      assert.error_matches(function() q:push_many(list) end,
                           ("something at [%s]"):format(key), 1, true)
    end
    q.store:transaction(function(tx)
      assert.error_matches(function() tx:push_many(q, { 1, nil, 3 }) end,
                           "transaction:push_many: payload 2 of 3 is nil")
    end)
    assert.equal(0, q:length().total)
  end)
end)
