-- SPDX-License-Identifier: MIT
--
-- What a push accepts and refuses: options, payloads, codecs.

local helper = require "spec.helper"
local respool = require "respool"

local huge, nan = math.huge, 0 / 0

local refuses = helper.refuses(it)

local function queue()
  return assert(helper.store():queue "orders")
end

describe("queue:push", function()
  local q
  before_each(function() q = queue() end)

  refuses("queue:push", function(o) q:push(1, o) end, {
    priority = { -1, 256, 1.5, "high" },
    delay = { -1, nan, huge, "1" },
    at = { -1, nan, huge },
    ttl = { -1, nan, "1" },
    headers = { 5, "x" },
    timeout = { -1, nan, "1" },
  })

  it("returns ids that rise", function()
    assert.equal(1, q:push "a")
    assert.equal(2, q:push "b")
  end)

  it("refuses to push nothing", function()
    assert.error_matches(function() q:push() end,
                         "bad argument #1 to 'push' %(a payload expected")
  end)

  it("refuses what has no CBOR form, and names where", function()
    assert.error_matches(function() q:push { a = { print } } end, "function")
    assert.error_matches(function()
      q:push(1, { headers = { f = print } })
    end, "function")
    assert.equal(0, q:length().total)
  end)

  it("refuses two times at once", function()
    assert.error_matches(function() q:push(1, { delay = 1, at = 2 }) end,
                         "'delay' and 'at' exclude each other")
  end)

  it("gives back any value", function()
    local values = { 1, -1, 0.5, "text", "\255", true, false,
                     { a = { 1, 2 } }, respool.null }
    q:push_many(values)
    local seen = {}
    for payload in q:take { limit = 20 }:each() do
      table.insert(seen, payload)
    end
    assert.same(values, seen)
  end)

  it("gives back headers and priority", function()
    q:push(1, { headers = { trace = "t" }, priority = 9 })
    local it = q:take():item(1)
    assert.same({ trace = "t" }, it.headers)
    assert.equal(9, it.priority)
  end)

  it("waits with what is delayed", function()
    q:push("later", { delay = 10 })
    q:push("then", { at = q.store:now() + 20 })
    assert.equal(2, q:length().scheduled)
    q.store:advance(10)
    assert.equal("later", q:take():item(1).payload)
    q.store:advance(10)
    assert.equal("then", q:take():item(1).payload)
  end)

  it("reports a full queue as a value", function()
    q = q.store:queue("orders", { max_items = 1 })
    assert(q:push(1))
    local id, message, code = q:push(2)
    assert.is_nil(id)
    assert.matches("orders", message)
    assert.equal("FULL", code)
  end)

  it("reports an item that is too large", function()
    q = helper.store { max_item_bytes = 100 }:queue "orders"
    local _, _, code = q:push(("x"):rep(200))
    assert.equal("TOO_LARGE", code)
    assert.equal(0, q:length().total)
  end)
end)

describe("queue:push_many", function()
  local q
  before_each(function() q = queue() end)

  it("returns the first id and how many", function()
    q:push "a"
    assert.same({ 2, 3 }, { q:push_many { "b", "c", "d" } })
  end)

  it("refuses an empty list, and what is no list", function()
    for _, list in ipairs { 5, "x" } do
      assert.error_matches(function() q:push_many(list) end,
                           "bad argument #1 to 'push_many'")
    end
    assert.error_matches(function() q:push_many {} end,
                         "queue:push_many: the list of payloads is empty")
  end)

  it("takes what a list with a metatable says that it has", function()
    local view = setmetatable({ "x" }, {
      __index = function(_, i) return i <= 3 and "item " .. i or nil end,
      __len = function() return 3 end,
    })
    if #view == 1 then return end -- Lua 5.1 asks no table for its length
    assert.same({ 1, 3 }, { q:push_many(view) })
    local shorter = setmetatable({ 1, 2, 3 }, {
      __len = function() return 2 end,
    })
    assert.same({ 4, 2 }, { q:push_many(shorter) })
    assert.same({ "x", "item 2", "item 3", 1, 2 },
                helper.payloads(q:take { limit = 9 }))
  end)

  it("pushes all or nothing", function()
    assert.has_error(function() q:push_many { 1, 2, print } end)
    assert.equal(0, q:length().total)
  end)
end)

describe("a check", function()
  it("refuses a push with its own message", function()
    local q = helper.store():queue("orders", { validate = function(order)
      if not order.sku then error("an order needs a sku", 0) end
    end })
    assert.error_matches(function() q:push {} end, "an order needs a sku")
    assert.error_matches(function() q:push_many { { sku = 1 }, {} } end,
                         "an order needs a sku")
    assert.equal(0, q:length().total)
    assert(q:push { sku = "A-1" })
  end)

  -- The message was a C string on its way.
  it("may refuse with any bytes", function()
    local q = helper.store():queue("orders", {
      validate = function() return nil, "why\0not" end,
    })
    local _, message = pcall(q.push, q, 1)
    assert.equal("why\0not", message:sub(-7))
  end)
end)

describe("a codec", function()
  it("raw stores the bytes as they are", function()
    local q = helper.store():queue("orders", { codec = "raw" })
    q:push_many { "a\0b", "" }
    local batch = q:take { limit = 2 }
    assert.equal("a\0b", batch:item(1).payload)
    assert.equal("", batch:item(2).payload)
    assert.error_matches(function() q:push(5) end, "must be a string")
  end)

  it("of the user's own is used both ways", function()
    local q = helper.store():queue("orders", { codec = {
      name = "twice",
      encode = function(n) return tostring(2 * n) end,
      decode = function(s) return tonumber(s) / 2 end,
    } })
    q:push(21)
    assert.equal("42", q:peek()[1].bytes)
    assert.equal(21, q:take():item(1).payload)
  end)

  it("must encode to a string", function()
    local q = helper.store():queue("orders", { codec = {
      name = "broken", encode = function() return 5 end, decode = print,
    } })
    assert.error_matches(function() q:push(1) end, "codec 'broken' encoded")
  end)

  it("that raises or gives nothing makes dead letters too", function()
    local store = helper.store()
    local q = store:queue("orders", { codec = {
      name = "moody", encode = tostring,
      decode = function(s) if s == "1" then error("not today", 0) end end,
    } })
    q:push_many { 1, 2 }
    for _ in q:take { limit = 2 }:each() do error "decoded?" end
    store:close()
    local dead_letters = helper.open(store.path):dead "orders":list()
    assert.equal("codec 'moody': not today", dead_letters[1].error)
    assert.equal("codec 'moody' decoded to nothing", dead_letters[2].error)
  end)

  it("that cannot decode makes dead letters, bytes untouched", function()
    local store = helper.store()
    local q = store:queue "orders"
    helper.push_bytes(q, "\255")
    helper.push_bytes(q, "\24\100")
    local seen = {}
    local batch = q:take { limit = 2 }
    for payload in batch:each() do table.insert(seen, payload) end
    batch:done()
    batch:settle()
    assert.same({ 100 }, seen)
    local dead_letter = q.dead:oldest()
    assert.equal("undecodable", dead_letter.reason)
    assert.equal("\255", dead_letter.bytes)
    assert.is_nil(dead_letter.payload)
  end)
end)
