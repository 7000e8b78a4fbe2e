-- SPDX-License-Identifier: MIT
--
-- Functions of the user's: each says no by raising, or by returning nil and an
-- error, or false.

local helper = require "spec.helper"
local respool = require "respool"

local store, q

before_each(function()
  store = helper.store()
  q = assert(store:queue "orders")
end)

local it = helper.checked(it)

-- Ways to say no, with what is told of it.
local NO = {
  raises = { function() error("no thanks", 0) end, "no thanks" },
  ["returns nil and an error"] = { function() return nil, "no thanks" end,
                                   "no thanks" },
  ["returns nil and an error table"] = {
    function() return nil, { message = "no thanks", code = 7 } end,
    "no thanks",
  },
  ["returns false"] = { function() return false end, "returned false" },
}

local function dead_letters(n)
  for i = 1, n do assert(q:push(i)) end
  local batch = q:take { limit = n }
  batch:dead()
  assert(batch:settle())
end

for way, no in pairs(NO) do
  describe("a function that " .. way, function()
    it("as validate refuses the push", function()
      local strict = assert(store:queue("strict", { validate = no[1] }))
      assert.error_matches(function() strict:push "a" end, no[2])
      assert.error_matches(function() strict:push_many { "a" } end, no[2])
      assert.error_matches(function()
        store:transaction(function(tx) tx:push(strict, "a") end)
      end, no[2])
      local buffered = assert(store:queue("strict", {
        validate = no[1], buffer = {},
      }))
      assert.error_matches(function() buffered:push "a" end, no[2])
      assert.equal(0, strict:length().total)
    end)

    it("as transform fails its dead letter", function()
      dead_letters(2)
      local counts = assert(q.dead:replay { transform = no[1] })
      assert.same({ 0, 2 }, { counts.moved, counts.failed })
      assert.matches(no[2], counts.errors[1])
    end)

    it("as upgrade makes a dead letter", function()
      assert(store:queue("orders", { version = 1 }):push "a")
      q = assert(store:queue("orders", { version = 2, upgrade = no[1] }))
      q:work(print, { stop_when_empty = true })
      assert.equal("version", q.dead:oldest().reason)
      assert.matches(no[2], q.dead:oldest().error)
    end)

    it("as writer ends the export", function()
      q:push "a"
      local counts, message = respool.export { queue = q, writer = no[1] }
      assert.is_nil(counts)
      assert.matches(way == "returns false" and "refused" or no[2], message)
    end)
  end)
end

describe("where", function()
  it("skips by false or nothing", function()
    dead_letters(2)
    for _, answer in ipairs { function() return false end, function() end } do
      local counts = assert(q.dead:replay { where = answer })
      assert.same({ 0, 2, 0 }, { counts.moved, counts.skipped, counts.failed })
    end
  end)

  it("fails by raising, or by nil and an error", function()
    dead_letters(2)
    for _, answer in ipairs { NO.raises[1], function() return nil, "no" end } do
      local counts = assert(q.dead:replay { where = answer })
      assert.same({ 0, 0, 2 }, { counts.moved, counts.skipped, counts.failed })
    end
  end)
end)

describe("the function of a transaction", function()
  it("rolls it back by nil and an error, which are returned", function()
    local ok, message, code = store:transaction(function(tx)
      tx:push(q, "a")
      return nil, "out of stock"
    end)
    assert.is_nil(ok)
    assert.same({ "out of stock" }, { message, code })
    ok, message, code = store:transaction(function(tx)
      tx:push(q, "a")
      return nil, "gone", "NOT_FOUND"
    end)
    assert.same({ "gone", "NOT_FOUND" }, { message, code })
    assert.is_nil(ok)
    assert.equal(0, q:length().total)
  end)

  it("rolls it back by false", function()
    local ok, message = store:transaction(function(tx)
      tx:push(q, "a")
      return false
    end)
    assert.is_nil(ok)
    assert.matches("returned false", message)
    assert.equal(0, q:length().total)
  end)

  it("undoes its own steps alone within another", function()
    assert(store:transaction(function(tx)
      tx:push(q, "outer")
      local ok, message = store:transaction(function(inner)
        inner:push(q, "inner")
        return nil, "no"
      end)
      assert.is_nil(ok)
      assert.equal("no", message)
    end))
    assert.same({ "outer" }, helper.payloads(q))
  end)
end)

describe("validate", function()
  it("lets pass by returning nothing, or anything else", function()
    for _, yes in ipairs { function() end, function() return true end,
                           function(p) return p end } do
      q = assert(store:queue("orders", { validate = yes }))
      assert(q:push "a")
    end
    assert.equal(3, q:length().total)
  end)
end)
