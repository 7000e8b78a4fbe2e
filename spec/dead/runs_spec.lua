-- SPDX-License-Identifier: MIT
--
-- Dead letters that died alike are stored together; each is listed, removed,
-- moved and bounded by itself all the same.

local helper = require "spec.helper"
local it = helper.checked(it)

local N = 700 -- some records

local store, q

-- N items that die in one commit.
local function bury(options)
  local list = {}
  for i = 1, N do list[i] = { n = i, text = ("x"):rep(i % 90) } end
  store = helper.store()
  q = store:queue("q", options)
  q:push_many(list)
  local batch = q:take { limit = N }
  batch:dead { error = "bad", group = "g" }
  assert(batch:settle())
end

local function numbers(o)
  local list = {}
  for dead_letter in q.dead:each(o) do
    list[#list + 1] = dead_letter.number
    assert.equal(dead_letter.number, dead_letter.payload.n)
    assert.equal(dead_letter.number, dead_letter.id)
  end
  return list
end

-- From..to, without multiples of `but`.
local function range(from, to, but)
  local list = {}
  for i = from, to, from <= to and 1 or -1 do
    if not but or i % but ~= 0 then list[#list + 1] = i end
  end
  return list
end

-- Every multiple, in no order.
local function remove_multiples(of)
  local gone = {}
  for i = of, N, of do gone[#gone + 1] = i end
  math.randomseed(helper.seed)
  for i = #gone, 2, -1 do
    local k = math.random(i)
    gone[i], gone[k] = gone[k], gone[i]
  end
  for _, number in ipairs(gone) do assert.is_true(q.dead:remove(number)) end
end

describe("dead letters that died alike", function()
  it("are listed both ways, from anywhere", function()
    bury()
    assert.same(range(1, N), numbers())
    assert.same(range(N, 1), numbers { order = "newest" })
    for _, at in ipairs { 1, 2, 333, N - 1, N } do
      assert.equal(at, q.dead:get(at).payload.n)
      local up = q.dead:list { after = at, limit = 3 }
      assert.equal(math.min(3, N - at), #up)
      assert.equal(up[1] and at + 1, up[1] and up[1].number)
    end
    assert.is_nil(q.dead:get(N + 1))
  end)

  it("are removed one by one", function()
    bury()
    remove_multiples(3)
    assert.same(range(1, N, 3), numbers())
    assert.same(range(N, 1, 3), numbers { order = "newest" })
    assert.equal(#range(1, N, 3), q.dead:count())
    assert.is_nil(q.dead:get(3))
    local bytes = q:stats().dead_bytes
    assert.is_nil(q.dead:remove(3))
    assert.equal(bytes, q:stats().dead_bytes)
    assert.same(range(1, N, 3), numbers())
    assert.equal(q.dead:count(), q.dead:groups()[1].count)
  end)

  it("are purged by what they are", function()
    bury()
    assert.equal(N - #range(1, N, 2), q.dead:purge {
      where = function(dead_letter) return dead_letter.payload.n % 2 == 0 end,
    })
    assert.same(range(1, N, 2), numbers())
    assert.equal(#range(1, N, 2), q.dead:purge { group = "g" })
    assert.equal(0, q:stats().dead_bytes)
  end)

  it("go back one by one, and the rest in pages", function()
    bury()
    for _, number in ipairs { N, 1, 350, 351 } do
      assert(q.dead:retry(number))
    end
    assert.is_nil(q.dead:retry(350))
    local counts = q.dead:replay {
      name = "j", where = function(d) return d.payload.n % 5 ~= 0 end,
    }
    assert.equal(0, counts.failed)
    local seen = {}
    for item in q:each() do
      assert.is_nil(seen[item.payload.n])
      assert.equal(1, item.replays)
      assert.equal(item.payload.n, item.origin.id)
      seen[item.payload.n] = true
    end
    for dead_letter in q.dead:each() do
      assert.equal(0, dead_letter.payload.n % 5)
      assert.is_nil(seen[dead_letter.payload.n])
      seen[dead_letter.payload.n] = true
    end
    for i = 1, N do assert.is_true(seen[i]) end
  end)

  it("are bounded by number and by bytes, the newest stay", function()
    bury { keep_dead = { items = 100 } }
    assert.same(range(N - 99, N), numbers())
    q:push { n = N + 1 }
    local batch = q:take()
    batch:dead { error = "worse" }
    assert(batch:settle())
    assert.same(range(N - 98, N + 1), numbers())
    assert.equal(N - 99, q:stats().dead_dropped)
    bury { keep_dead = { bytes = 20000 } }
    assert.is_true(q:stats().dead_bytes <= 20000)
    assert.is_true(q.dead:count() > 100)
    assert.equal(N, q.dead:list { order = "newest" }[1].number)
  end)
end)
