-- SPDX-License-Identifier: MIT
--
-- Payload versions: stored with each push, upgraded on take, and
-- never handed to a program that does not know them.

local helper = require "spec.helper"

local empty = { stop_when_empty = true }

local store

local function queue(options)
  return assert(store:queue("orders", options))
end

-- The payloads that a handler gets.
local function work(q)
  local seen = {}
  q:work(function(payload) table.insert(seen, payload) end, empty)
  return seen
end

local function upgrade(payload, from)
  return { name = payload, from = from }
end

before_each(function() store = helper.store() end)

describe("a payload version", function()
  it("is that of the handle that pushes", function()
    local q = queue { version = 3 }
    assert(q:push "a")
    assert(q:push_many { "b" })
    assert.equal(3, q:peek()[1].version)
    assert.equal(3, q:get(2).version)
    assert.equal(3, assert(q:take()):item(1).version)
  end)

  it("is 0 when none was given", function()
    local q = queue()
    assert(q:push "a")
    assert.equal(0, q:peek()[1].version)
  end)

  it("goes through a buffer, and along with a settle", function()
    local q = queue { version = 2, buffer = {} }
    assert(q:push "a")
    assert(q:push("b", { priority = 0 }))
    assert(q:flush())
    queue { version = 2 }:work(function(_, item)
      item:push(q, "c")
    end, { limit = 2 })
    assert.equal(2, q:get(3).version)
    assert.equal(2, q:get(4).version)
    assert.same({ "c", "c" }, work(q))
  end)

  it("does not bother a handle without one", function()
    assert(queue { version = 7 }:push "a")
    assert.same({ "a" }, work(queue()))
  end)

  it("lets equal versions pass", function()
    local q = queue { version = 2, upgrade = error }
    assert(q:push "a")
    assert.same({ "a" }, work(q))
  end)
end)

describe("an older payload", function()
  it("is upgraded before the handler sees it", function()
    assert(queue { version = 1 }:push "a")
    assert(queue():push "b")
    local q = queue { version = 2, upgrade = upgrade }
    assert.same({ { name = "a", from = 1 }, { name = "b", from = 0 } },
                work(q))
    assert.equal(2, q:stats().done)
  end)

  it("is upgraded wherever a batch is read", function()
    assert(queue { version = 1 }:push "a")
    local q = queue { version = 2, upgrade = upgrade }
    local batch = assert(q:take())
    assert.equal("a", batch:item(1).payload.name)
    for payload in batch:each() do assert.equal("a", payload.name) end
    assert.equal(1, batch:item(1).version)
    batch:close()
  end)

  it("is shown as it is stored", function()
    assert(queue { version = 1 }:push "a")
    local q = queue { version = 2, upgrade = upgrade }
    assert.equal("a", q:peek()[1].payload)
    assert.equal("a", q:get(1).payload)
  end)

  it("is a dead letter when there is no upgrade", function()
    assert(queue { version = 1 }:push "a")
    local q = queue { version = 2 }
    assert.same({}, work(q))
    local dead_letter = q.dead:oldest()
    assert.equal("version", dead_letter.reason)
    assert.equal("payload version 1, and no upgrade to 2", dead_letter.error)
    assert.equal(1, dead_letter.version)
    assert.equal("a", dead_letter.payload)
    assert.equal(1, q:stats().died_by.version)
  end)

  it("is a dead letter when the upgrade raises, its bytes untouched", function()
    assert(queue { version = 1, codec = "raw" }:push "\1\2")
    local q = queue { version = 2, codec = "raw", upgrade = function()
      error("no such field", 0)
    end }
    assert.same({}, work(q))
    local dead_letter = q.dead:oldest()
    assert.equal("version", dead_letter.reason)
    assert.equal("upgrade from version 1: no such field", dead_letter.error)
    assert.equal("\1\2", dead_letter.bytes)
  end)

  it("is a dead letter when the upgrade returns nothing", function()
    assert(queue { version = 1 }:push "a")
    local q = queue { version = 2, upgrade = function() end }
    assert.same({}, work(q))
    assert.matches("returned nothing", q.dead:oldest().error)
  end)

  it("is a dead letter for another reason when it cannot be decoded", function()
    helper.push_bytes(queue { version = 1 }, "\255")
    local q = queue { version = 2, upgrade = upgrade }
    assert.same({}, work(q))
    assert.equal("undecodable", q.dead:oldest().reason)
  end)

  it("does not keep its neighbours", function()
    assert(queue { version = 1 }:push "a")
    local q = queue { version = 2, upgrade = function(p)
      if p == "b" then error "b" end
      return p
    end }
    assert(queue { version = 1 }:push "b")
    assert(q:push "c")
    assert.same({ "a", "c" }, work(q))
    assert.equal(1, q.dead:count())
  end)

  it("is upgraded after a replay", function()
    assert(queue { version = 1 }:push "a")
    local q = queue { version = 2 }
    work(q)
    assert.equal(1, q.dead:replay().moved)
    assert.equal(1, q:peek()[1].version)
    assert.same({ { name = "a", from = 1 } },
                work(queue { version = 2, upgrade = upgrade }))
  end)
end)

describe("a payload that a replay transforms", function()
  local function mend(options)
    assert(queue { version = 1 }:push "a")
    work(queue { version = 2 })
    options.transform = function() return { name = "b" } end
    local q = queue { version = 2, upgrade = upgrade }
    assert.equal(1, q.dead:replay(options).moved)
    return q
  end

  it("is of its dead letter's version, if nothing else is said", function()
    assert.equal(1, mend({}):peek()[1].version)
  end)

  it("is of the version that is said, and not upgraded", function()
    local q = mend { version = 2 }
    assert.equal(2, q:peek()[1].version)
    assert.same({ { name = "b" } }, work(q))
  end)

  it("has a version only if there is a transform", function()
    assert.error_matches(function()
      queue().dead:replay { version = 2 }
    end, "dead:replay: version is of what transform returns")
  end)
end)

describe("a newer payload", function()
  it("is a dead letter, upgrade or not", function()
    assert(queue { version = 3 }:push "a")
    local q = queue { version = 2, upgrade = upgrade }
    assert.same({}, work(q))
    local dead_letter = q.dead:oldest()
    assert.equal("version", dead_letter.reason)
    assert.equal("payload version 3 is newer than 2", dead_letter.error)
    assert.equal(3, dead_letter.version)
  end)

  it("is handled by who knows it, after a replay", function()
    assert(queue { version = 3 }:push "a")
    local q = queue { version = 2 }
    work(q)
    assert.equal(1, q.dead:replay().moved)
    assert.same({ "a" }, work(queue { version = 3 }))
  end)

  it("is marked by a batch's each", function()
    assert(queue { version = 3 }:push "a")
    local q = queue { version = 2 }
    local batch = assert(q:take())
    for _ in batch:each() do error "nothing to see" end
    assert(batch:settle())
    assert.equal("version", q.dead:oldest().reason)
  end)
end)

describe("versions and merging", function()
  it("fold what was upgraded", function()
    assert(queue { version = 1 }:push(1))
    local q = queue { version = 2, upgrade = function(n)
      return { k = "a", n = n }
    end }
    assert(q:push { k = "a", n = 5 })
    local sum
    q:work(function(p) sum = p.n end, { stop_when_empty = true, merge = {
      key = function(p) return p.k end,
      with = function(a, b) return { k = a.k, n = a.n + b.n } end } })
    assert.equal(6, sum)
  end)
end)

describe("options of versions", function()
  it("must be what they are", function()
    for option, values in pairs {
      version = { -1, 1.5, "1", true }, upgrade = { 5, {} },
    } do
      for _, value in ipairs(values) do
        assert.error_matches(function() queue { [option] = value } end,
                             "option '" .. option .. "' must be ")
      end
    end
  end)

  it("need each other", function()
    assert.error_matches(function() queue { upgrade = upgrade } end,
                         "'upgrade' needs a 'version'")
  end)
end)
