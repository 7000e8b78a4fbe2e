-- SPDX-License-Identifier: MIT
--
-- Migration: spec/data/format1.mdb.gz is a store of format 1 with every kind
-- of record, made by spec/data/format1.lua with the tree as it was then.

local helper = require "spec.helper"
local notes = require "respool.cli.base.notes"
local respool = require "respool"
local stored = require "spec.helper.stored"

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

-- A fresh copy of the store of format 1.
local function old_store()
  local path = helper.location()
  helper.sh(("mkdir '%s' && gzip -dc spec/data/format1.mdb.gz >'%s/data.mdb'")
    :format(path, path))
  return path
end

local function migrated(path)
  return assert(helper.open(path or old_store(), { clock = "manual" }))
end

local function format_of(path)
  for _, entry in ipairs(stored.raw(path).meta) do
    if entry.key == "format" then return stored.decode(entry.value) end
  end
end

-- The digits of the large items, as the script makes them.
local function large(n)
  local parts, x = {}, 1
  for i = 1, n do
    x = x * 48271 % 2147483647
    parts[i] = ("%010d"):format(x)
  end
  return table.concat(parts)
end

local function state_of(store, name)
  local s = assert(assert(store:queue(name, { create = false })):stats())
  return { s.ready, s.leased, s.scheduled, s.retrying }
end

describe("a store of format 1", function()
  it("is refused read-only, and stays what it is", function()
    local path = old_store()
    local store, message, code = helper.open(path, { read_only = true })
    assert.same({ nil, "VERSION" }, { store, code })
    assert.matches("format 1: open it for writing", message)
    assert.equal(1, format_of(path))
  end)

  it("tells how far its migration has come, and is left when that is given up",
     function()
    local path = old_store()
    local run = "'" .. build .. "/spec/migration' '" .. path .. "' "
    local said = helper.sh(run .. "4 2>&1")
    assert.matches("^the migration to format 2, 0 %% done\n", said)
    assert.matches("\nLOCKED: gave up waiting for the migration", said)
    assert.equal(1, format_of(path))
    local last, n = 0, 0
    for done in helper.sh(run .. "0 2>&1"):gmatch "2, (%d+) %% done" do
      assert.is_true(tonumber(done) >= last)
      last, n = tonumber(done), n + 1
    end
    assert.is_true(n >= 10 and last > 10 and last < 100)
    assert.equal(2, format_of(path))
  end)

  it("is not migrated while another process has it open", function()
    local path = old_store()
    local reader = helper.spawn([[
      os.execute("exec '" .. arg[1] .. "/spec/reader' '" .. arg[2] .. "'")]],
      build, path)
    reader:expect "reading"
    assert.same("LOCKED", (select(3, helper.open(path))))
    os.execute("LD_PRELOAD= pkill -P " .. reader.pid)
    reader:wait()
    assert.equal(1, format_of(path))
  end)

  it("becomes one of format 2 when it is opened for writing", function()
    local path = old_store()
    local store = migrated(path)
    assert.equal(2, format_of(path))
    assert.same({}, store:check())
    assert.equal("control data.mdb lock.mdb",
                 helper.sh(("ls '%s'"):format(path)):gsub("\n", " "))
  end)

  it("keeps its id", function()
    local path = old_store()
    local id
    for _, entry in ipairs(stored.raw(path).meta) do
      if entry.key == "store" then id = stored.decode(entry.value).bytes end
    end
    local hex = id:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
    assert.equal(hex, migrated():stats().id)
  end)
end)

describe("a migrated store", function()
  local store

  before_each(function() store = migrated() end)

  it("has all queues but those of notes, with their items", function()
    assert.same({ "audit", "big", "hand", "keyed", "leased", "mails", "own",
                  "policy", "raw", "ready" }, store.handle:queues())
    assert.same({ 310, 0, 5, 0 }, state_of(store, "ready"))
    assert.same({ 3, 0, 0, 0 }, state_of(store, "keyed"))
    assert.same({ 7, 0, 0, 0 }, state_of(store, "mails"))
  end)

  it("tells those that wait for a retry from the scheduled", function()
    assert.same({ 43, 2, 2, 4 }, state_of(store, "leased"))
  end)

  it("gives every item out", function()
    local n = 0
    store:advance(4e9)
    for name, rest in pairs { ready = 315, leased = 51, keyed = 3, mails = 7,
                              audit = 3, raw = 1, own = 1, hand = 0 } do
      local q = assert(store:queue(name))
      while true do
        local batch = assert(q:take { limit = 100 })
        if #batch == 0 then break end
        n, rest = n + #batch, rest - #batch
        batch:done()
        assert(batch:settle())
      end
      local stats = q:stats()
      assert.equal(0, rest - stats.expired, name)
      assert.equal(0, stats.damaged)
    end
    assert.is_true(n > 370)
    assert.same({}, store:check())
  end)

  it("keeps leases, attempts and failures", function()
    local q, retrying = store:queue "leased", 0
    for item in q:each { state = "retrying" } do
      if item.error == "no answer" then
        retrying = retrying + 1
        assert.equal(1, item.attempts)
      end
    end
    assert.equal(4, retrying)
  end)

  it("knows of no worker that leases an item", function()
    local n = 0
    for item in store:queue "leased":each { state = "leased" } do
      assert.is_nil(item.worker)
      n = n + 1
    end
    assert.equal(2, n)
  end)

  it("keeps large items, finished ones, and payloads of other codecs",
     function()
    local big = store:queue "big"
    assert.equal(large(1600 + 150), big:peek(1)[1].payload.text)
    assert.equal(large(1700), big.dead:each()().payload.text)
    local finished = big.history:each()()
    assert.equal(large(1650), finished.payload.text)
    -- Format 1 did not say yet of which codec a payload is.
    assert.equal("desserts",
                 store:queue("own", { codec = "raw" }):peek(1)[1].payload)
    assert.equal("\0\1\2 plain bytes \255",
                 store:queue("raw", { codec = "raw" }):peek(1)[1].payload)
  end)

  it("keeps keys, windows, headers and expiry times", function()
    local q = store:queue "keyed"
    assert.equal(2, #stored.raw(store.path).expiries)
    assert.equal("EXISTS", select(3, q:push({}, { key = "eve" })))
    assert.equal("EXISTS", select(3, q:push({}, { key = "bob" })))
    assert.is_number(q:push({}, { key = "ada" }))
    assert.same({ trace = "4bf9" }, q.history:each()().headers)

  end)

  it("keeps dead letters with their history", function()
    local q = store:queue "mails"
    local counts = {}
    for _, g in ipairs(q.dead:groups()) do counts[g.group] = g.count end
    assert.same({ ["no address"] = 12, later = 9 }, counts)
    for letter in q.dead:each { group = "later" } do
      assert.same({ "greylisted", 1 }, { letter.error, #letter.history })
    end
  end)

  it("measures their bytes", function()
    for _, name in ipairs { "mails", "big failures" } do
      local q = assert(store:queue(name))
      assert.equal(0, q:stats().dead_bytes) -- not known to a look
      assert(q.dead:push "one more")
      assert.is_true(q:stats().dead_bytes > 200)
    end
    assert.same({}, store:check())
  end)

  it("stores their bytes with its first maintenance", function()
    local q = assert(store:queue "mails")
    assert(store:maintain())
    assert.is_true(q:stats().dead_bytes > 200)
  end)

  it("keeps what its histograms have counted, under the bounds of today",
     function()
    local wait = migrated():queue("mails", { create = false }):stats().wait
    assert.equal(30, wait.count)
    assert.same({ upto = 0.001, count = 30 }, wait.buckets[3])
  end)

  it("goes on with its named replays", function()
    local q = store:queue "mails"
    assert.equal(7, store:replay "mend".moved)
    local counts = assert(q.dead:replay { name = "mend" })
    assert.equal("finished", counts.state)
    assert.equal(0, q.dead:count())
    assert.same({}, store:check())
  end)

  it("keeps policies and pauses", function()
    local q = store:queue "policy"
    local c = q:config()
    assert.same({ 7, 77, 9, 2, true, 1000, "drop_oldest", "elsewhere", 86400 },
      { c.lease, c.max_lease, c.max_attempts, c.max_crashes, c.ordered,
        c.max_items, c.overflow, c.dead_letter, c.keep_dead })
    assert.is_true(q:stats().paused)
  end)

  it("keeps the notes of the command line, and what was imported", function()
    assert.same({ line = 17, place = 4711 },
                notes.get(store, "push", "mails.jsonl"))
    assert.equal("mails", notes.get(store, "replay", "mend").box)
    local imports = 0
    for _, name in ipairs(store.handle:note_names()) do
      if name:sub(1, 7) == "import " then imports = imports + 1 end
    end
    assert.equal(1, imports)
  end)
end)

describe("what was damaged before a migration", function()
  it("is a damaged dead letter after it", function()
    local path = old_store()
    stored.damage(path, "flip", "letters", 3, -1)
    local store, damaged = migrated(path), 0
    for _, name in ipairs { "mails", "big failures" } do
      for letter in store:dead(name):each() do
        damaged = damaged + (letter.damaged and 1 or 0)
      end
    end
    assert.equal(1, damaged)
    assert.equal(1, #store:check())
  end)

  it("is a segment that a take sets aside", function()
    local path = old_store()
    stored.damage(path, "flip", "segments", 0, -1)
    local store, aside = migrated(path), 0
    assert.equal(1, #store:check())
    for _, name in ipairs(store.handle:queues()) do
      local q = store:queue(name)
      q:take { limit = 400 }
      aside = aside + q:stats().damaged
    end
    assert.is_true(aside > 0)
  end)
end)

describe("repair of a store of format 1", function()
  it("is refused, and says what to do", function()
    local path = old_store()
    local done, message, code = respool.repair(path, helper.location())
    assert.same({ nil, "VERSION" }, { done, code })
    assert.matches("format 1: opening it for writing migrates it", message)
  end)
end)

describe("a migration that is killed", function()
  local POINTS = { "migrating", "writev", "pwrite", "replacement whole",
                   "replacement named", "migrated" }

  -- Opens a copy, killed there; the path, and whether it was.
  local function killed(point, passes, rule)
    local path = old_store()
    local status = helper.sh(
      ("'%s/spec/fault/migrate' '%s' '%s' %d %s 2>/dev/null; echo $?"):format(
        build, path, point, passes, rule and "'" .. rule .. "'" or ""))
    return path, tonumber(status:match "%d+$") == 137
  end

  -- What a store holds, in a few words.
  local function digest(store)
    local words = {}
    for _, name in ipairs(store.handle:queues()) do
      local s = state_of(store, name)
      words[#words + 1] = name .. " " .. table.concat(s, " ")
    end
    for _, name in ipairs(store:dead_letter_queues()) do
      words[#words + 1] = name .. " " .. store:dead(name):count()
    end
    for _, replay in ipairs(store:replays()) do
      words[#words + 1] = replay.name .. " " .. replay.cursor
    end
    return table.concat(words, "; ") .. "; "
      .. table.concat(store.handle:note_names(), " ")
  end

  local function is_whole(path, expected)
    local store = helper.open(path, { clock = "manual" })
    return store and #store:check() == 0 and digest(store) == expected
  end

  it("leaves a store of format 1 or 2, nothing lost", function()
    local expected, formats = digest(migrated()), { 0, 0 }
    for _, point in ipairs(POINTS) do
      for passes = 0, 20, point == "writev" and 2 or 5 do
        local path, dead = killed(point, passes)
        if not dead then break end
        local format = format_of(path)
        formats[format] = formats[format] + 1
        assert.is_true(is_whole(path, expected), point .. passes)
      end
    end
    assert.is_true(formats[1] > 5 and formats[2] >= 2)
  end)

  it("would lose what it had, were the file published at once", function()
    local expected = digest(migrated())
    local path, dead = killed("migrating", 2, "whole before it is published")
    assert.is_true(dead)
    assert.is_falsy(is_whole(path, expected))
  end)
end)

describe("a migration on a full disk", function()
  it("says NOSPACE, leaves the store, and is done when there is room",
     function()
    local dir = helper.dir()
    local mounted = os.execute(
      ("mount -t tmpfs -o size=232k tmpfs %s 2>/dev/null"):format(dir))
    if mounted ~= true and mounted ~= 0 then
      pending "a full disk needs root, to mount a small one"
      return
    end
    local ok, problem = pcall(function()
      helper.sh(("gzip -dc spec/data/format1.mdb.gz >'%s/data.mdb'")
        :format(dir))
      assert.equal("NOSPACE", (select(3, helper.open(dir))))
      assert.equal(1, format_of(dir))
      helper.sh(("mount -o remount,size=4m '%s'"):format(dir))
      local store = migrated(dir)
      assert.same({}, store:check())
      store:close()
    end)
    os.execute("umount -l " .. dir)
    assert(ok, problem)
  end)
end)
