-- SPDX-License-Identifier: MIT
--
-- Any byte of any record may be damaged: that must not crash the program, nor
-- keep it from ending.

local helper = require("spec.helper").without_journal()
local stored = require "spec.helper.stored"

local build = assert(os.getenv "RESPOOL_BUILD", "eval \"$(make env)\" first")

-- For each line of a file, a copy of the store with that byte inverted:
-- every verb once.
local TRY_ALL = [[
  local respool = require "respool"
  local template, damage, choices = arg[1], arg[2], arg[3]
  local path = template .. ".copy"
  io.stdout:setvbuf "no"

  local function settle_all(q)
    for _ = 1, 20 do
      local batch = q:take { limit = 100 }
      if not batch or #batch == 0 then return end
      for i = 1, #batch do
        local item, n = batch:item(i), (batch:item(i).id + i) % 5
        if n == 0 then item:retry { error = "no" } end
        if n == 1 then item:dead() end
        if n == 2 then item:snooze(1) end
      end
      batch:extend(5)
      batch:done()
      batch:settle()
    end
  end

  local function use(store)
    store:check()
    store:stats()
    local q = store:queue "orders"
    if not q then return end
    q:stats()
    q:peek(10)
    for _ in q:each() do end
    for id = 1, 12 do q:get(id) end
    q:push("more", { delay = 1 })
    q:push "more"
    q:push("more", { partition = "p" })
    q:push("more", { partition = "lone 50" })
    settle_all(q)
    store:advance(1e5)
    settle_all(q)
    for _ in q.dead:each() do end
    q.dead:groups()
    q.dead:replay { name = "again", limit = 2 }
    q.dead:retry(1)
    q:remove(3)
    q:partitions()
    q:hold(1, { partition = "p" })
    q:purge()
    q.dead:purge()
    store:replays()
    store.handle:note_load "a note"
    store:drop_queue "orders"
  end

  for choice in io.lines(choices) do
    print(choice)
    os.execute(("rm -rf '%s'; cp -r '%s' '%s'; '%s' '%s' flip %s"):format(
      path, template, path, damage, path, choice))
    local store = respool.open(path, {
      clock = "manual", sync = "relaxed", seed = 1,
    })
    if store then
      pcall(use, store)
      store:close()
    end
  end
  print "finished"
]]

-- Databases that these queues leave empty.
local EMPTY = { keys = true, windows = true, history = true }

local function settle_first(batch)
  batch:item(1):retry()
  batch:settle()
end

-- A closed store with something in every other database.
local function fill()
  local store = helper.store()
  local q = assert(store:queue "orders")
  q:push_many { "a", "b", "c", "d", "e" }
  q:push_many { "f", ("x"):rep(40000) }
  q:push("soon", { delay = 60, ttl = 90, priority = 3, headers = { 1 } })
  local batch = q:take { limit = 4 }
  batch:item(1):dead { error = "bad", group = "g" }
  batch:item(2):retry { error = "busy" }
  batch:item(3):done()
  batch:settle()
  batch = q:take()
  batch:dead()
  batch:settle()
  q.dead:replay { name = "again", limit = 1 }
  for i = 1, 200 do q:push(i, { partition = i % 2 == 0 and "p" or "o" }) end
  for i = 1, 200 do q:push(i, { partition = "lone " .. i }) end
  q:push_many({ 1, 2 }, { partition = "q", delay = 60 })
  settle_first(q:take { limit = 3 })
  assert(q:hold(60, { partition = "held" }))
  assert(store:transaction(function(tx) tx:note("a note", "its bytes") end))
  assert(store:schedule("nightly", {
    cron = "0 3 * * *", queue = "orders", payload = "tick",
  }))
  store:close()
  return store.path
end

-- Lines "database n offset", drawn at random.
local function choose(path, count)
  local lines, databases, found = {}, {}, stored.read(path)
  for name, entries in pairs(found) do
    assert.equal(not EMPTY[name], #entries > 0, name)
    if #entries > 0 then table.insert(databases, name) end
  end
  table.sort(databases)
  for i = 1, count do
    local name = databases[math.random(#databases)]
    local n = math.random(#found[name])
    lines[i] = ("%s %d %d"):format(name, n - 1,
                                   math.random(#found[name][n].bytes) - 1)
  end
  return table.concat(lines, "\n") .. "\n"
end

describe("a damaged byte of any record", function()
  it("crashes nothing", function()
    math.randomseed(helper.seed)
    local path, choices = fill(), helper.dir() .. "/choices"
    helper.write(choices, choose(path, 100))
    local process = helper.spawn(TRY_ALL, path, build .. "/spec/damage",
                                 choices)
    process:expect("finished", 600)
  end)
end)
