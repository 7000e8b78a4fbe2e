-- SPDX-License-Identifier: MIT
--
-- Repair: whatever is damaged in a store, what is whole comes back, and
-- nothing comes back changed. spec/lmdb/salvage_spec.lua damages at random.

local helper = require("spec.helper").without_journal()
local respool = require "respool"
local stored = require "spec.helper.stored"

local store, q

local function open(options)
  store = helper.store(options)
  q = assert(store:queue("orders", {
    codec = "raw", retry = respool.backoff.constant { delay = 5 },
  }))
end

-- Closes the store, lets `harm` loose on its file, and repairs it.
local function repair(harm)
  local from, to = store.path, helper.location()
  assert(store:close())
  if harm then
    local file = assert(io.open(from .. "/data.mdb", "r+b"))
    harm(file)
    file:close()
  end
  local done = assert(respool.repair(from, to))
  store = assert(helper.open(to, { clock = "manual" }))
  assert.same({}, store:check())
  return done
end

-- All that can be seen of a queue's items, by their ids.
local function items(name)
  local found = {}
  local queue = assert(store:queue(name or "orders", { codec = "raw" }))
  for item in queue:each() do
    found[item.id] = {
      item.payload, item.priority, item.attempts, item.deliveries, item.key,
      item.error, item.pushed_at, item.expires_at,
      item.headers and item.headers.trace,
    }
  end
  return found
end

local function dead_letters()
  local found = {}
  local queue = assert(store:queue("orders", { codec = "raw" }))
  for dead_letter in queue.dead:each() do
    found[dead_letter.number] = {
      dead_letter.id, dead_letter.payload, dead_letter.reason,
        dead_letter.group, dead_letter.error,
      dead_letter.attempts, dead_letter.died_at, #dead_letter.history,
      dead_letter.history[1] and dead_letter.history[1].error,
    }
  end
  return found
end

local function settle_each_its_way(batch)
  for i = 1, #batch do
    local item = batch:item(i)
    local kind = i % 4
    if kind == 0 then item:done() end
    if kind == 1 then item:retry { error = "busy " .. i } end
    if kind == 2 then item:dead { error = "bad " .. i, group = "g" } end
    if kind == 3 then item:snooze(50) end
  end
  assert(batch:settle())
end

-- A store with something of everything.
local function fill()
  for i = 1, 20 do
    local list = {}
    for k = 1, 10 do list[k] = ("item %d.%d "):format(i, k):rep(20) end
    assert(q:push_many(list, { priority = i % 3 }))
  end
  q:push(("large "):rep(20000))
  q:push("later", { delay = 3600, headers = { trace = "4bf9" } })
  q:push("short-lived", { ttl = 5000 })
  q:push("once", { key = "k", on_conflict = "ignore", dedup = 600 })
  settle_each_its_way(q:take { limit = 40 })
  store:advance(6)
  settle_each_its_way(q:take { limit = 10 })
  store:queue("other", { max_attempts = 7, keep_done = 600, lease = 9 })
    :push { a = 1 }
end

describe("repair of a sound store", function()
  before_each(function()
    open()
    fill()
  end)

  it("brings every item back as it was", function()
    local before, other = items(), items "other"
    local length = q:length().total
    local done = repair()
    assert.same({}, done.findings)
    assert.same(before, items())
    assert.same(other, items "other")
    assert.equal(2, done.queues)
    assert.equal(length + 1, done.items)
  end)

  it("brings every dead letter back with its history", function()
    local before = dead_letters()
    local done = repair()
    assert.is_true(done.dead_letters > 5)
    assert.same(before, dead_letters())
  end)

  it("lets each DLQ go on with its own numbers", function()
    open()
    local counts = { { "few", 2 }, { "many", 40 } }
    for _, row in ipairs(counts) do
      local queue, n = assert(store:queue(row[1])), row[2]
      for i = 1, n do assert(queue:push(i)) end
      local batch = assert(queue:take { limit = n })
      for i = 1, n do batch:item(i):dead { error = "bad" } end
      assert(batch:settle())
    end
    repair()
    for _, row in ipairs(counts) do
      local queue = assert(store:queue(row[1]))
      assert.equal(row[2] + 1, queue.dead:push("x", { error = "e" }))
    end
  end)

  it("keeps schedules", function()
    open()
    local before = assert(store:schedule("nightly", {
      cron = "@daily", queue = q, payload = ("x"):rep(20000),
    }))
    repair()
    assert.same({ before }, store:schedules())
  end)

  it("keeps the queues' options and counters", function()
    local before = assert(store:queue "orders"):stats()
    repair()
    local s = store:queue("other"):stats()
    assert.equal(1, s.pushed)
    local after = store:queue("orders"):stats()
    for _, name in ipairs { "pushed", "done", "died", "bytes", "retried",
                            "ready", "scheduled", "retrying" } do
      assert.equal(before[name], after[name], name)
    end
  end)

  it("ends leases without spending anything", function()
    local batch = q:take { limit = 3 }
    local id = batch:item(1).id
    local from = store.path
    local to = helper.location()
    local sleeper = helper.spawn([[
      local respool = require "respool"
      local store = respool.open(arg[1])
      local batch = store:queue("orders", { codec = "raw" }):take { limit = 2 }
      print(#batch == 2 and "leased"); io.stdout:flush()
      os.execute "sleep 60"]], from)
    sleeper:expect "leased"
    assert(store:close())
    sleeper:kill()
    assert(respool.repair(from, to))
    store = assert(helper.open(to, { clock = "manual" }))
    q = assert(store:queue("orders", { codec = "raw" }))
    assert.same({ 0, 0 }, { q:length().leased, q:get(id).crashes })
    assert.same({}, store:check())
  end)

  it("holds keys, and their windows", function()
    repair()
    local again = assert(store:queue("orders", { codec = "raw" }))
    local _, _, code = again:push("twice", { key = "k" })
    assert.equal("EXISTS", code)
  end)

  it("goes on with ids above all that were", function()
    local highest = 0
    for id in pairs(items()) do highest = math.max(highest, id) end
    repair()
    assert.is_true(store:queue("orders", { codec = "raw" }):push "new"
                     > highest)
  end)
end)

describe("repair", function()
  it("refuses a place where there is something", function()
    open()
    local from = store.path
    assert(store:close())
    local ok, message, code = respool.repair(from, from)
    assert.is_nil(ok)
    assert.same({ "EXISTS", true }, { code, message:find "empty" ~= nil })
  end)

  it("refuses a store that is open, here or elsewhere", function()
    open()
    local to = helper.location()
    assert.equal("LOCKED", (select(3, respool.repair(store.path, to))))
    local process = helper.spawn([[
      local store = require "respool".open(arg[1])
      print "open"; io.stdout:flush(); os.execute "sleep 60"
      store:close()]], store.path)
    process:expect "open"
    local from = store.path
    assert(store:close())
    assert.equal("LOCKED", (select(3, respool.repair(from, to))))
    process:kill()
  end)

  it("says when there is no store", function()
    local _, _, code = respool.repair(helper.dir(), helper.location())
    assert.equal("NOT_FOUND", code)
  end)

  it("sets a damaged segment aside, with its bytes", function()
    open()
    assert(q:push_many { "first", "second" })
    assert(q:push "third")
    local done = repair(function(file)
      local text = file:read "*a"
      local at = assert(text:find("second", 1, true))
      file:seek("set", at - 1)
      file:write "sEcond"
    end)
    assert.equal(2, done.set_aside)
    assert.matches("set aside: 2 items of queue 'orders' from id 1",
                   done.findings[1])
    assert.equal("undecodable", store:dead("orders"):get(1).reason)
    assert.matches("sEcond", store:dead("orders"):get(1).bytes)
    assert.same({ [3] = "third" }, { [3] = items()[3][1] })
  end)

  it("makes an empty store of a file that holds nothing", function()
    open()
    local done = repair(function(file)
      local size = file:seek "end"
      file:seek "set"
      file:write(("\0"):rep(size))
    end)
    assert.same({ 0, 0 }, { done.queues, done.items })
  end)

  it("finds everything when both first pages are gone", function()
    open()
    fill()
    local before = items()
    local done = repair(function(file)
      file:write(("x"):rep(8192))
    end)
    local after = items()
    for id, item in pairs(before) do
      assert.same(item[1], after[id] and after[id][1])
    end
    assert.matches("free list is damaged", table.concat(done.findings, "\n"))
  end)
end)


-- Damage that leaves LMDB's pages as they should be.

-- A copy of a store, damaged as spec/c/lmdb/damage.c says.
local function damaged(path, ...)
  local copy = helper.dir()
  helper.sh(("cp '%s'/data.mdb '%s'"):format(path, copy))
  stored.damage(copy, ...)
  return copy
end

-- The repaired store becomes `store`.
local function repair_copy(copy)
  local to = helper.location()
  local done = assert(respool.repair(copy, to))
  store = assert(helper.open(to, { clock = "manual" }))
  assert.same({}, store:check())
  return done, table.concat(done.findings, "\n")
end

-- The payloads of all queues and dead letters, and how often each is there.
local function everything()
  local found = {}
  local function add(payload)
    found[payload] = (found[payload] or 0) + 1
  end
  for _, name in ipairs(store:queues()) do
    local queue = assert(store:queue(name, { codec = "raw" }))
    for item in queue:each() do add(item.payload) end
  end
  for _, name in ipairs(store:dead_letter_queues()) do
    for dead_letter in store:dead(name, { codec = "raw" }):each() do
      add(dead_letter.payload or dead_letter.bytes)
    end
  end
  return found
end

local function close()
  local path = store.path
  assert(store:close())
  return path
end

describe("repair of a store with a damaged key", function()
  local KEYS = { segments = 16, remaining = 16, claims = 14, dead_letters = 12 }
  for name, size in pairs(KEYS) do
    it("loses nothing, whichever byte it is: " .. name, function()
      open()
      fill()
      local before = everything()
      local path = close()
      for n = 0, 2 do
        for offset = 0, size - 1 do
          local where = ("%s %d byte %d"):format(name, n, offset)
          repair_copy(damaged(path, "rekey", name, n, offset))
          local after = everything()
          for payload, times in pairs(before) do
            assert.is_true((after[payload] or 0) >= times, where)
          end
          store:close()
        end
      end
    end)
  end

  it("believes the items when the key has another count", function()
    open()
    fill()
    local before = items()
    repair_copy(damaged(close(), "rekey", "segments", 3, 15))
    assert.same(before, items())
  end)

  it("leaves what a damaged segment seems to reach over", function()
    open()
    q:push_many { "first", "second" }
    for i = 3, 9 do q:push("item " .. i) end
    local copy = damaged(close(), "rekey", "segments", 0, 15)
    stored.damage(copy, "flip", "segments", 0, -1)
    local done, said = repair_copy(copy)
    local left = items()
    for i = 3, 9 do assert.equal("item " .. i, left[i][1]) end
    assert.equal(2, done.set_aside)
    assert.matches("set aside: 2 items", said)
  end)
end)

describe("repair of a store with a damaged bitmap", function()
  local path

  before_each(function()
    open()
    local list = {}
    for i = 1, 10 do list[i] = "item " .. i end
    q:push_many(list)
    local batch = q:take { limit = 10 }
    batch:item(1):done()
    assert(batch:settle())
    path = close()
  end)

  local LOST = "lost: a record of 'remaining'.*settled items may be back"

  it("tells it, and loses nothing, whichever byte it is", function()
    for offset = 0, 12 do
      local _, said = repair_copy(damaged(path, "flip", "remaining", 0,
                                          offset))
      assert.matches(LOST, said)
      local left = items()
      for id = 2, 10 do assert.equal("item " .. id, left[id][1]) end
      store:close()
    end
  end)

  it("has what was ready ready again", function()
    open()
    q:push_many { "1", "2", "3", "4", "5", "6", "7", "8" }
    assert(q:remove(1))
    local _, said = repair_copy(damaged(close(), "flip", "remaining", 0, 11))
    assert.matches(LOST, said)
    local left = items()
    for id = 2, 8 do assert.equal(tostring(id), left[id][1]) end
  end)
end)

describe("repair of a store with a damaged claim", function()
  it("tells it, and its items are there again, whichever byte it is",
     function()
    open()
    q:push_many { "a", "b", "c" }
    assert(q:take())
    local path = close()
    for offset = 0, 20 do
      local _, said = repair_copy(damaged(path, "flip", "claims", 0, offset))
      assert.matches("lost: a record of 'claims'", said)
      local left = items()
      for id, payload in ipairs { "a", "b", "c" } do
        assert.equal(payload, left[id][1])
      end
      store:close()
    end
  end)
end)

describe("repair of a store from which records are gone", function()
  it("counts what its queues and DLQs had more", function()
    open()
    q:push_many { "first", "second" }
    q:push "third"
    local batch = q:take { limit = 2 }
    batch:item(1):dead { error = "no" }
    batch:item(2):done()
    assert(batch:settle())
    q:push "fourth"
    local copy = damaged(close(), "del", "segments", 0)
    stored.damage(copy, "del", "dead_letters", 0)
    local done, said = repair_copy(copy)
    assert.same({ 1, 1 }, { done.lost_items, done.lost_dead_letters })
    assert.matches("queue 'orders' has 1 items, where its record says 2", said)
    assert.matches("DLQ 'orders' has 0 dead letters, where its record says 1",
      said)
  end)
end)

-- What leads to the records.

local function repair_bytes(change)
  local path = close()
  local bytes = helper.read(path .. "/data.mdb")
  local changed = change(bytes)
  assert.not_equal(bytes, changed)
  helper.write(path .. "/data.mdb", changed)
  return repair_copy(path)
end

describe("repair of a store whose pages are damaged", function()
  it("finds the records of a database that lost its name", function()
    open()
    fill()
    local before = everything()
    local _, said = repair_bytes(function(bytes)
      return (bytes:gsub("segments", "segmentz"))
    end)
    assert.same(before, everything())
    assert.matches("list of databases is damaged", said)
  end)

  it("does not depend on the size of pages that the first tells", function()
    open()
    fill()
    local before = everything()
    repair_bytes(function(bytes)
      return bytes:sub(1, 41) .. " " .. bytes:sub(43)
    end)
    assert.same(before, everything())
  end)

  it("says when the last commit may be lost", function()
    open()
    fill()
    local before = items()
    local _, said = repair_bytes(function(bytes)
      return ("\0"):rep(4096) .. bytes:sub(4097)
    end)
    assert.same(before, items()) -- the last commit was to another queue
    assert.matches("last two commits is damaged", said)
  end)

  it("finds a large item whose reference is damaged", function()
    open()
    local large = ("large "):rep(20000)
    q:push(large)
    local done, said = repair_copy(damaged(close(), "flip", "segments", 0, 5))
    assert.same({ 1, 1 }, { done.nameless, done.set_aside })
    assert.matches("set aside: 1 item of", said)
    assert.same({ large }, { items "recovered"[1][1] })
  end)
end)
