-- SPDX-License-Identifier: MIT
--
-- doc/format.md, its second half, against a store: claims, dead letters, jobs,
-- and the invariants, as spec/helper/stored.lua reads them.

local helper = require("spec.helper").without_journal()
local stored = require "spec.helper.stored"

local NULL, bytes = stored.NULL, stored.bytes
local store, q

before_each(function()
  store, q = stored.orders()
end)

local function look()
  return stored.read(store.path)
end

local function only(database)
  return stored.only(store.path, database)
end

local function ms(seconds)
  return math.floor((store:now() + (seconds or 0)) * 1000 + 0.5)
end

local function settle(...)
  stored.settle(q, ...)
end

describe("a claim", function()
  it("says who holds its items until when", function()
    q:push_many { "a", "b", "c" }
    q:take { limit = 2 }
    local c = only "claims"
    c.value.checksum = nil
    assert.same({ queue = 1, space = 0, priority = 0, ["first id"] = 1 }, c.key)
    assert.same({
      ["last id"] = 2, state = 1, token = c.value.token,
      visible_at = ms(30), left = 2,
      attempts = 0, deliveries = 1, crashes = 0, delay = 0, history = NULL,
      memo = NULL,
    }, c.value)
    assert.is_true(c.value.token > 0)
  end)

  it("says when its items come again, and what they went through",
     function()
    q:push "a"
    settle("retry", { error = "busy", group = "net" })
    local c = only "claims".value
    assert.same({ 2, 0, ms(5), 1, 1, 5000 }, { c.state, c.token,
      c.visible_at, c.attempts, c.deliveries, c.delay })
    local h = stored.record("history", c.history)
    assert.equal(1, h.count)
    assert.same({ at = ms(), error = "busy", group = "net", trace = NULL },
                stored.record("failure", h["failure list"][1]))
  end)

  it("covers what is delayed", function()
    q:push_many({ "a", "b" }, { delay = 60 })
    local c = only "claims"
    assert.same({ 1, 2, 2, ms(60) }, { c.key.space, c.value["last id"],
      c.value.state, c.value.visible_at })
  end)

  it("knows no delay before the first retry, however it was pushed",
     function()
    q:push("a", { delay = 60 })
    assert.equal(0, only "claims".value.delay)
  end)

  it("has one entry in due", function()
    q:push("a", { delay = 60, priority = 3 })
    assert.same({ queue = 1, priority = 3, visible_at = ms(60), space = 1,
                  ["first id"] = 1 }, only "due".key)
    assert.equal(NULL, only "due".value)
  end)

  it("keeps the first failure and the last three", function()
    q:push "a"
    for n = 1, 5 do
      settle("retry", { delay = 0, error = "failure " .. n })
    end
    local h = stored.record("history", only "claims".value.history)
    local errors = {}
    for i, f in ipairs(h["failure list"]) do
      errors[i] = stored.record("failure", f).error
    end
    assert.equal(5, h.count)
    assert.same({ "failure 1", "failure 3", "failure 4", "failure 5" },
                errors)
  end)

  it("has texts of 1,024 bytes at most, and bytes where not UTF-8",
     function()
    q:push_many { "a", "b" }
    settle("retry", { error = ("x"):rep(5000), group = "\255" })
    local h = stored.record("history", look().claims[1].value.history)
    local f = stored.record("failure", h["failure list"][1])
    assert.equal(1024, #f.error)
    assert.same(bytes "\255", f.group)
  end)
end)

describe("a dead letter", function()
  it("tells what died, why, and after what", function()
    q:push("a", { priority = 4 })
    settle("retry", { delay = 0, error = "busy" })
    local failed = ms()
    store:advance(2)
    settle("dead", { error = "bad", group = "poison" })
    local l = only "dead_letters".value
    assert.equal(only "dead_letters".key_bytes, l["own key"].bytes)
    assert.same({ 3, "rejected", "poison", "orders", 4, 1, "bad" },
      { l["3"], l.reason, l.group, l["queue name"], l.priority, l.items,
        l.error })
    assert.same({ ms(), failed }, { l.died_at, l.first_failed_at })
    assert.same({ 2, 2, 0, 0 },
                { l.attempts, l.deliveries, l.crashes, l["payload version"] })
    assert.equal(2, stored.record("history", l.history).count)
    assert.same({ number = 1, id = 1, pushed_at = failed,
                  item = stored.item "a" },
                stored.record("letter", l["letter list"][1]))
  end)

  it("is summed", function()
    q:push "a"
    settle("dead")
    assert.is_true(stored.is_summed(only "dead_letters"))
  end)

  it("has null for what is not known of it", function()
    q:push("a", { ttl = 1 })
    store:advance(2)
    q:take()
    local l = only "dead_letters".value
    assert.same({ "expired", NULL, NULL, NULL, 0 },
                { l.reason, l.group, l.error, l.history, l.first_failed_at })
  end)

  it("has a number that rises in its DLQ, and is counted there", function()
    q:push_many { "a", "b", "c" }
    for _ = 1, 3 do settle("dead") end
    q.dead:remove(2)
    local found = look()
    assert.same({ { DLQ = 1, ["last number"] = 1, count = 1 },
                  { DLQ = 1, ["last number"] = 3, count = 1 } },
                { found.dead_letters[1].key, found.dead_letters[2].key })
    assert.equal("orders", found.dlqs[1].key)
    found.dlqs[1].value.checksum = nil
    assert.same({ number = 1, ["next dead letter number"] = 4, count = 2,
                  bytes = q:stats().dead_bytes, dropped = 0 },
                found.dlqs[1].value)
  end)

  it("shares a record with those that died alike", function()
    q:push_many { "a", "b", "c" }
    local batch = q:take { limit = 3 }
    batch:dead { error = "bad" }
    assert(batch:settle())
    assert.same({ DLQ = 1, ["last number"] = 3, count = 3 },
                only "dead_letters".key)
    q.dead:remove(3)
    local l = only "dead_letters"
    assert.same({ DLQ = 1, ["last number"] = 2, count = 2 }, l.key)
    assert.equal(l.key_bytes, l.value["own key"].bytes)
    local second = stored.record("letter", l.value["letter list"][2])
    assert.same({ 2, 2, stored.item "b" },
                { second.number, second.id, second.item })
  end)

  it("does not, where it died otherwise", function()
    q:push_many { "a", "b", "c" }
    local batch = q:take { limit = 3 }
    for payload, item in batch:each() do
      item:dead { error = payload == "b" and "worse" or "bad" }
    end
    assert(batch:settle())
    assert.equal(3, #look().dead_letters)
  end)
end)

describe("a named replay", function()
  it("holds its cursor and counts", function()
    q:push_many { "a", "b", "c" }
    for _ = 1, 3 do settle("dead") end
    assert(q.dead:replay {
      name = "again", limit = 1, to = q,
      where = function(dead_letter) return dead_letter.number > 1 end,
    })
    local j = only "replays"
    assert.equal("again", j.key)
    j.value.checksum = nil
    assert.is_string(j.value.runner)
    j.value.runner = nil
    assert.same({
      dlq = "orders", to = "orders", state = 1, cursor = 2, upto = 3,
      seen = 2, moved = 1, skipped = 1, failed = 0, revision = 3, history = 0,
      started_at = ms(), updated_at = ms(),
    }, j.value)
  end)

  it("has null for a target that is each dead letter's own queue", function()
    assert(q.dead:replay { name = "again" })
    local r = only "replays".value
    assert.same({ NULL, 2 }, { r.to, r.state })
  end)
end)


-- The invariants, from the records alone.

-- A line of ids: queue, space, priority.
local function line_of(key)
  return ("%d/%d/%d"):format(key.queue, key.space, key.priority)
end

local function is_set(bits, i)
  local byte = bits:byte(math.floor(i / 8) + 1)
  return math.floor(byte / 2 ^ (i % 8)) % 2 == 1
end

-- The unsettled ids of each line, from segments and bitmaps.
local function unsettled(found)
  local bitmaps, lines, last = {}, {}, {}
  for _, r in ipairs(found.remaining) do
    bitmaps[r.key_bytes] = r.value.bits.bytes
  end
  for _, s in ipairs(found.segments) do
    local line, first = line_of(s.key), s.key["first id"]
    lines[line] = lines[line] or {}
    assert.is_true(first > (last[line] or 0), "I1: segments overlap")
    last[line] = first + s.key.count - 1
    local bits, live = bitmaps[s.key_bytes], 0
    for i = 0, s.key.count - 1 do
      if not bits or is_set(bits, i) then
        lines[line][first + i], live = 0, live + 1
      end
    end
    assert.is_true(live > 0, "I4: a segment of nothing")
    bitmaps[s.key_bytes] = nil
  end
  assert.is_nil(next(bitmaps), "I4: a bitmap of nothing")
  return lines
end

-- Counts for each unsettled id the claims it is in.
local function cover(found, lines)
  for _, c in ipairs(found.claims) do
    local ids, left = lines[line_of(c.key)] or {}, 0
    for id = c.key["first id"], c.value["last id"] do
      if ids[id] then ids[id], left = ids[id] + 1, left + 1 end
    end
    assert.equal(c.value.left, left, "I3: what is left of a claim")
  end
end

local function due_of(claim)
  return ("%s/%d/%d"):format(line_of(claim.key), claim.key["first id"],
    claim.value and claim.value.visible_at or claim.key.visible_at)
end

local function assert_due(found)
  local due = {}
  for _, d in ipairs(found.due) do
    due[due_of { key = d.key }] = true
  end
  for _, c in ipairs(found.claims) do
    assert.is_true(due[due_of(c)], "I3: a claim is not due")
  end
  assert.equal(#found.claims, #found.due, "I3: due")
end

-- Every unsettled id is in one claim, but for those from the head on.
local function assert_covered(found, lines)
  local head = {}
  for _, r in ipairs(found.queues) do
    for _, priority in ipairs(r.value["priority list"]) do
      priority = stored.record("priority", priority)
      head[("%d/0/%d"):format(r.value.number, priority.priority)] =
        priority.head
    end
  end
  for line, ids in pairs(lines) do
    for id, claims in pairs(ids) do
      local fresh = head[line] and id >= head[line]
      assert.equal(fresh and 0 or 1, claims, "I2: item " .. id)
    end
  end
end

local function assert_account(found, lines)
  local live = 0
  for _, ids in pairs(lines) do
    for _ in pairs(ids) do live = live + 1 end
  end
  local c = stored.record("counters", found.queues[1].value.counters)
  assert.equal(c.pushed, live + c.done + c.died + c.expired + c.removed, "I5")
  local dead = 0
  for _, e in ipairs(found.dead_letters) do
    local letters = e.value["letter list"]
    assert.equal(e.key.count, #letters)
    assert.equal(e.key["last number"],
                 stored.record("letter", letters[#letters]).number)
    dead = dead + e.key.count
  end
  assert.equal(dead, found.dlqs[1] and found.dlqs[1].value.count or 0)
end

local function assert_sound()
  local found = look()
  local lines = unsettled(found)
  cover(found, lines)
  assert_due(found)
  assert_covered(found, lines)
  assert_account(found, lines)
end

-- Everything that may happen to a queue, drawn at random.
local random, batches

local function outcome(item)
  local n = random(7)
  if n == 1 then item:retry() end
  if n == 2 then item:release() end
  if n == 3 then item:snooze(random(40)) end
  if n == 4 then item:dead() end
  if n >= 6 then item:done() end
end

local events = {
  function()
    local list = {}
    for i = 1, random(20) do list[i] = ("x"):rep(random(3000)) end
    q:push_many(list, {
      priority = random(3), ttl = random(4) == 1 and random(90) or nil,
      delay = random(4) == 1 and random(60) or nil,
    })
  end,
  function() q:push(("x"):rep(random(30000))) end,
  function() table.insert(batches, (q:take { limit = random(25) })) end,
  function()
    local batch = table.remove(batches, random(math.max(#batches, 1)))
    for i = 1, batch and #batch or 0 do outcome(batch:item(i)) end
    if batch then batch:settle() end
  end,
  function() store:advance(random(20)) end,
  function() q:remove(random(200)) end,
  function() q.dead:replay { limit = random(3), keep_attempts = true } end,
}

describe("the invariants", function()
  it("hold in the records, whatever happens", function()
    math.randomseed(helper.seed)
    random, batches = math.random, {}
    for step = 1, 200 do
      events[random(#events)]()
      if step % 20 == 0 then assert_sound() end
    end
    q:push_many({ "a", "b" }, { priority = 9 })
    q:push("c", { ttl = 1 })
    q:take { limit = 2 }
    store:advance(31)
    q:take()
    assert_sound()
    assert.is_true(q:stats().crashed > 0 and q:stats().expired > 0)
  end)
end)
