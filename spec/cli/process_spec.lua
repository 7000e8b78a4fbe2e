-- SPDX-License-Identifier: MIT
--
-- Several processes on one store, and kill -9 among them.

local helper = require "spec.helper"
local respool = require "respool"

local store, q

-- What the processes begin with. They append lines to files, each line by
-- one write, so that lines of several never mix.
local PRELUDE = [[
  local respool = require "respool"
  local path, log = arg[1], arg[2]
  local store = assert(respool.open(path))
  local q = assert(store:queue "orders")
  local file = log and assert(io.open(log, "a"))
  if file then file:setvbuf("full", 65536) end
  local function note(...)
    file:write(table.concat({ ... }, " "), "\n")
    file:flush()
  end
  local function nap(seconds)
    assert(store:queue "nothing"):take { timeout = seconds }
  end
  io.stdout:setvbuf "no"
]]

local function spawn(code, ...)
  return helper.spawn(PRELUDE .. code, store.path, ...)
end

local function open(options)
  store = assert(helper.open(helper.location(), options))
  q = assert(store:queue("orders", { lease = 30, max_crashes = math.huge }))
end

-- Lines of a file as lists of words.
local function lines(path)
  local list = {}
  for line in io.lines(path) do
    local words = {}
    for word in line:gmatch "%S+" do table.insert(words, word) end
    table.insert(list, words)
  end
  return list
end

local function new_log()
  local path = helper.dir() .. "/log"
  helper.write(path, "")
  return path
end

local pause = helper.pause

-- Waits until fn() is true, a minute at most.
local function await(fn)
  for _ = 1, 6000 do
    if fn() then return end
    pause(0.01)
  end
  error "it did not come to that"
end

describe("a process that is killed", function()
  before_each(function() open { clock = "manual" } end)

  local TAKE = [[ q:take { limit = 3 }; print "took"; q:take { timeout = 99 } ]]

  it("loses its leases, nothing else: the items come back", function()
    q:push_many { "a", "b", "c" }
    local worker = spawn(TAKE)
    worker:expect "took"
    worker:kill()
    assert.equal(0, #q:take())
    store:advance(600)
    local batch = q:take { limit = 3 }
    assert.same({ 2, 1, 2 },
                { #batch, batch:item(1).crashes, batch:item(1).deliveries })
    assert.same({}, store:check())
  end)

  it("has settled what it has settled, and not the rest", function()
    q:push_many { "a", "b", "c" }
    local worker = spawn [[
      local batch = q:take { limit = 3 }
      batch:item(2):done()
      batch:settle()
      batch:item(3):done()
      print "took"
      q:take { timeout = 99 }
    ]]
    worker:expect "took"
    worker:kill()
    store:advance(600)
    assert.same({ 1, 2 }, { q:stats().done, q:length().ready })
    local _, _, code = q:get(2)
    assert.equal("NOT_FOUND", code)
  end)

  it("keeps no lease by its thread any more", function()
    q:push "a"
    local worker = spawn [[
      q:work(function() print "took"; q:take { timeout = 99 } end)
    ]]
    worker:expect "took"
    worker:kill()
    store:advance(600)
    assert.equal(1, #q:take())
  end)

  it("cannot settle what went to another meanwhile", function()
    q:push "a"
    local worker = spawn [[
      local batch = q:take()
      print "took"
      repeat until q:get(1).deliveries == 2
      batch:done()
      print((select(3, batch:settle())))
    ]]
    worker:expect "took"
    store:advance(600)
    local batch = q:take()
    assert.equal(0, worker:wait())
    assert.matches("LEASE_LOST", worker:output())
    batch:done()
    assert.is_true(batch:settle())
  end)
end)

describe("processes that take at the same time", function()
  it("never get the same item", function()
    open()
    local list, log, workers = {}, new_log(), {}
    for i = 1, 300 do list[i] = i end
    q:pause()
    q:push_many(list)
    for i = 1, 4 do
      workers[i] = spawn([[
        print "ready"
        q:work(function(n) note(n) end, { batch = 3 })
      ]], log)
    end
    for _, worker in ipairs(workers) do worker:expect "ready" end
    q:resume()
    await(function() return q:stats().done == 300 end)
    for _, worker in ipairs(workers) do worker:kill() end
    local seen = {}
    for _, words in ipairs(lines(log)) do
      assert.is_nil(seen[words[1]])
      seen[words[1]] = true
    end
    assert.equal(300, q:stats().done)
    assert.equal(300, #lines(log))
  end)
end)

describe("the settings of a queue", function()
  before_each(function() open { clock = "manual" } end)

  it("are honoured by every process", function()
    assert(store:queue("orders", {
      lease = 77, max_attempts = 2, dead_letter = "morgue",
      retry = respool.backoff.constant { delay = 0 },
    }))
    q:push "a"
    local worker = spawn [[
      for _ = 1, 2 do
        local batch = q:take { timeout = 5 }
        batch:retry { error = "no" }
        batch:settle()
      end
      q:push "b"
      q:take()
    ]]
    assert.equal(0, worker:wait())
    assert.equal("exhausted", store:dead "morgue":get(1).reason)
    local item = q:get(2)
    assert.is_true(item.visible_at - item.pushed_at > 76.9) -- 30 by default
  end)

  it("may be changed while others work", function()
    local worker = spawn [[
      print "ready"
      local batch
      repeat batch = q:take { timeout = 9 } until #batch > 0
      batch:retry { error = "no" }
      batch:settle()
    ]]
    worker:expect "ready"
    assert(store:queue("orders", { max_attempts = 1 }))
    q:push "a"
    assert.equal(0, worker:wait())
    assert.equal(1, q.dead:count())
  end)

  it("hold when it is paused", function()
    q:push "a"
    q:pause()
    local worker = spawn [[ print(#q:take { timeout = 0.1 }) ]]
    worker:wait()
    assert.equal("0\n", worker:output())
  end)
end)

describe("a replay that is killed", function()
  local DEAD_LETTERS = 1500

  local function kill_dead_letters()
    local list = {}
    for i = 1, DEAD_LETTERS do list[i] = i end
    q:push_many(list)
    local batch = q:take { limit = DEAD_LETTERS }
    batch:dead()
    batch:settle()
  end

  it("goes on by its name, and moves each dead letter once", function()
    math.randomseed(helper.seed)
    open()
    kill_dead_letters()
    for _ = 1, 4 do -- at a rate by which it would take half a minute
      local replay = spawn [[
        print "begun"
        assert(q.dead:replay { name = "again", rate = 50 })
      ]]
      replay:expect "begun"
      pause(0.02 + math.random() * 0.12)
      assert.equal(137, replay:kill())
    end
    assert(q.dead:replay { name = "again" })
    local state = store:replay "again"
    local seen = {}
    for item in q:each() do
      assert.is_nil(seen[item.payload])
      seen[item.payload] = true
      assert.equal(1, item.replays)
    end
    assert.same({ DEAD_LETTERS, 0, DEAD_LETTERS },
                { #seen, q.dead:count(), state.moved })
    assert.same({}, store:check())
  end)
end)


-- The storm: pushers and workers, killed at random and replaced.

local LEASE, ROUNDS = 1, 14

-- Pushes batches of consecutive numbers; notes them when acknowledged.
local PUSHER = [[
  local n = 0
  while true do
    local batch = {}
    for i = 1, 1 + n % 20 do batch[i] = arg[3] .. "/" .. n + i end
    local first = assert(q:push_many(batch))
    local text = {}
    for i, payload in ipairs(batch) do
      text[i] = ("pushed %d %s"):format(first + i - 1, payload)
    end
    note(table.concat(text, "\n"))
    n = n + #batch
    nap(0.004)
  end
]]

-- Notes what it took, between which times, and what it has settled.
local WORKER = [[
  while true do
    local before = store:now()
    local batch = assert(q:take { limit = 50, timeout = 1 })
    local times = ("%.3f %.3f"):format(before, store:now())
    for i = 1, #batch do
      local item = batch:item(i)
      note("took", item.id, item.payload, item.deliveries, item.crashes, times)
    end
    nap(0.02)
    batch:done()
    if #batch > 0 and batch:settle() then
      for i = 1, #batch do note("done", batch:item(i).id) end
    end
    batch:close()
  end
]]

-- As a user would write it; when the batch was taken is not known.
local HANDLER = [[
  q:work(function(payload, item)
    note("took", item.id, payload, item.deliveries, item.crashes)
    if item.id % 10 == 0 then nap(0.002) end
  end, { batch = 50 })
]]

-- Starts the process in this place of the crew, or another in its stead. It is
-- killed when it has begun: else, on a busy machine, nobody dies at work.
local function man(crew, place)
  local code = place <= 4 and PUSHER or place <= 6 and WORKER or HANDLER
  crew.started = crew.started + 1
  crew[place] = spawn('print "ready"\n' .. code, crew.log,
                      "p" .. crew.started)
end

local function storm(crew)
  local hoarder = spawn [[
    repeat until #q:take { limit = 3, timeout = 1 } > 0
    print "took"
    nap(99)
  ]]
  for place = 1, 8 do man(crew, place) end
  hoarder:expect "took"
  hoarder:kill()
  for _ = 1, ROUNDS do
    local place = math.random(8)
    crew[place]:expect "ready"
    pause(0.05 + math.random() * 0.3)
    crew[place]:kill()
    man(crew, place)
  end
  await(function() return q:stats().pushed > 200 end)
  for place = 1, 4 do crew[place]:kill() end
end

local function wait_until_empty()
  for _ = 1, 1200 do
    if q:length().total == 0 then return end
    pause(0.05)
  end
end

-- The notes, by what was noted and id.
local function read_notes(log)
  local notes = { pushed = {}, took = {}, done = {} }
  for _, words in ipairs(lines(log)) do
    local of, id = notes[words[1]], tonumber(words[2])
    of[id] = of[id] or {}
    table.insert(of[id], {
      payload = words[3], deliveries = tonumber(words[4]),
      crashes = tonumber(words[5]), before = tonumber(words[6]),
      after = tonumber(words[7]),
    })
  end
  return notes
end

-- An item comes again only when its lease has run out.
local function assert_leased(takes)
  table.sort(takes, function(a, b) return a.deliveries < b.deliveries end)
  for i, take in ipairs(takes) do
    local last = takes[i - 1]
    assert.equal(take.deliveries - 1, take.crashes)
    if last then assert.is_true(take.deliveries > last.deliveries) end
    if last and last.before and take.after then
      assert.is_true(take.after - last.before >= LEASE - 0.002)
    end
  end
end

-- Where the items of the queue are at the end: each is done, or has ended in
-- another way, or is left.
local function account()
  local stats, dead = q:stats(), {}
  for letter in q.dead:each() do
    table.insert(dead, ("%d %s"):format(letter.id, letter.reason))
  end
  return {
    pushed = stats.pushed, done = stats.done, died = stats.died,
    expired = stats.expired, removed = stats.removed,
    left = q:length().total, dead = dead, check = store:check(),
  }
end

-- Keeps the store and the notes of a failed run, and says where they lie.
local function keep(crew, account_of)
  local kept = helper.sh 'mktemp -d "${TMPDIR:-/tmp}/respool-kept.XXXXXX"'
  helper.sh(("cp -r '%s' '%s' '%s'"):format(store.path, crew.log, kept))
  local list = {}
  for name, value in pairs(account_of) do
    if type(value) == "table" then
      for i, line in ipairs(value) do value[i] = tostring(line) end
      value = "[" .. table.concat(value, "; ") .. "]"
    end
    table.insert(list, name .. " " .. value)
  end
  table.sort(list)
  return ("seed %d, kept in %s: %s"):format(helper.seed, kept,
                                             table.concat(list, ", "))
end

local function assert_notes(notes)
  local pushed = 0
  for id, acknowledged in pairs(notes.pushed) do
    assert.equal(1, #acknowledged)
    assert(notes.took[id], "never delivered: item " .. id)
    assert.equal(acknowledged[1].payload, notes.took[id][1].payload)
    pushed = pushed + 1
  end
  for _, takes in pairs(notes.took) do assert_leased(takes) end
  for _, settled in pairs(notes.done) do assert.equal(1, #settled) end
  return pushed
end

describe("four processes that push and four that work, killed at random",
         function()
  it("lose nothing and do nothing twice", function()
    math.randomseed(helper.seed)
    open()
    assert(store:queue("orders", { lease = LEASE }))
    local crew = { started = 0, log = new_log() }
    storm(crew)
    wait_until_empty()
    for place = 5, 8 do crew[place]:kill() end
    local a = account()
    local ok, message = pcall(function()
      local pushed = assert_notes(read_notes(crew.log))
      assert.is_true(pushed > 100 and pushed <= a.pushed)
      assert.same({ a.pushed, 0, {}, {} }, { a.done, a.left, a.dead, a.check })
      assert.is_true(q:stats().crashed > 0)
    end)
    if not ok then error(tostring(message) .. "\n" .. keep(crew, a), 0) end
  end)
end)
