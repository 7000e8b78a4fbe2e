-- SPDX-License-Identifier: MIT
--
-- Repair: whatever is damaged in a store, what is whole comes back, and
-- nothing comes back changed.
--
-- RESPOOL_SEED repeats the random damage.

local helper = require "spec.helper"
local respool = require "respool"

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

local function letters()
  local found = {}
  local queue = assert(store:queue("orders", { codec = "raw" }))
  for letter in queue.dead:each() do
    found[letter.number] = {
      letter.id, letter.payload, letter.reason, letter.group, letter.error,
      letter.attempts, letter.died_at, #letter.history,
      letter.history[1] and letter.history[1].error,
    }
  end
  return found
end

local function settle_each_its_way(lot)
  for i = 1, #lot do
    local item = lot:item(i)
    local verdict = i % 4
    if verdict == 0 then item:done() end
    if verdict == 1 then item:retry { error = "busy " .. i } end
    if verdict == 2 then item:dead { error = "bad " .. i, group = "g" } end
    if verdict == 3 then item:snooze(50) end
  end
  assert(lot:settle())
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
  settle_each_its_way(q:take { items = 40 })
  store:advance(6)
  settle_each_its_way(q:take { items = 10 })
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

  it("brings every letter back with its history", function()
    local before = letters()
    local done = repair()
    assert.is_true(done.letters > 5)
    assert.same(before, letters())
  end)

  it("keeps the queues' options and counters", function()
    local before = assert(store:queue "orders"):stats()
    repair()
    local s = store:queue("other"):stats()
    assert.equal(1, s.pushed)
    local after = store:queue("orders"):stats()
    for _, name in ipairs { "pushed", "done", "died", "bytes", "retried",
                            "ready", "waiting" } do
      assert.equal(before[name], after[name], name)
    end
  end)

  it("ends leases without spending anything", function()
    local lot = q:take { items = 3 }
    local id = lot:item(1).id
    local from = store.path
    local to = helper.location()
    local sleeper = helper.spawn([[
      local respool = require "respool"
      local store = respool.open(arg[1])
      local lot = store:queue("orders", { codec = "raw" }):take { items = 2 }
      print(#lot == 2 and "leased"); io.stdout:flush()
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
    assert.equal("BUSY", (select(3, respool.repair(store.path, to))))
    local process = helper.spawn([[
      local store = require "respool".open(arg[1])
      print "open"; io.stdout:flush(); os.execute "sleep 60"
      store:close()]], store.path)
    process:expect "open"
    local from = store.path
    assert(store:close())
    assert.equal("BUSY", (select(3, respool.repair(from, to))))
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
    assert.matches('set aside: 2 items of queue "orders" from id 1',
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


-- Random damage.

local PAGE = 4096

-- Pushes lists of items of all sizes and settles some; returns the payloads
-- that are there, in queues and boxes, and all that ever were.
local function populate()
  local there = {}
  local function push(n, size, options)
    local list = {}
    for i = 1, n do
      list[i] = ("<%d:%06d>"):format(#there + i, math.random(999999))
      list[i] = list[i]:rep(math.ceil(size / #list[i]))
    end
    assert(q:push_many(list, options))
    for i = 1, n do there[#there + 1] = list[i] end
  end
  for _ = 1, 60 do
    push(math.random(40), ({ 10, 100, 700, 3000 })[math.random(4)],
         { priority = math.random(0, 1),
           delay = math.random(9) == 1 and 900 or nil })
  end
  push(3, 50000)
  local gone = {}
  for _ = 1, 25 do
    local lot = q:take { items = math.random(20) }
    for i = 1, #lot do
      local way = math.random(4)
      local item = lot:item(i)
      if way == 1 then
        gone[item.payload] = true
        item:done()
      elseif way == 2 then item:dead { error = "no" }
      elseif way == 3 then item:retry { delay = 900 } end
    end
    assert(lot:settle())
  end
  local left = {}
  for _, payload in ipairs(there) do
    if not gone[payload] then left[#left + 1] = payload end
  end
  return left, there
end

-- Overwrites some ranges at random; returns them.
local function harm(file)
  local size, ranges = file:seek "end", {}
  for i = 1, math.random(3) do
    local length = math.random(16, PAGE)
    local from = math.random(0, size - length)
    local noise = {}
    for k = 1, length do noise[k] = string.char(math.random(0, 255)) end
    file:seek("set", from)
    file:write(table.concat(noise))
    ranges[i] = { from, from + length }
  end
  return ranges
end

-- Far enough from all damage that its pages are whole, wherever it lies.
-- A payload repeats its first word, wherever parts of it lie.
local function is_safe(text, payload, ranges)
  local from, word = 1, payload:match "^<.->"
  while true do
    local a, b = text:find(word, from, true)
    if not a then return true end
    for _, range in ipairs(ranges) do
      if a - 5 * PAGE < range[2] and b + 5 * PAGE > range[1] then
        return false
      end
    end
    from = b + 1
  end
end

-- The payloads of all queues and boxes.
local function collect()
  local found = {}
  for _, name in ipairs(store:queues()) do
    for item in assert(store:queue(name, { codec = "raw" })):each() do
      found[#found + 1] = item.payload
    end
  end
  for _, name in ipairs(store:boxes()) do
    local queue = assert(store:queue(name, { codec = "raw" }))
    for letter in queue.dead:each() do
      if letter.reason ~= "undecodable" then
        found[#found + 1] = letter.payload
      end
    end
  end
  return found
end

local function set_of(list)
  local set = {}
  for _, value in ipairs(list) do set[value] = true end
  return set
end

-- What is wrong with what came back: a list of words. Of items that lost
-- their place nobody knows which were settled, or moved.
local function compare(pushed, safe, found, loose, all)
  local wrong, seen = {}, {}
  local there, known = set_of(pushed), set_of(all or pushed)
  for _, payload in ipairs(found) do
    if not known[payload] then
      wrong[#wrong + 1] = "changed"
    elseif not there[payload] and not loose then
      wrong[#wrong + 1] = "settled"
    elseif seen[payload] and not loose then
      wrong[#wrong + 1] = "doubled"
    end
    seen[payload] = true
  end
  for _, payload in ipairs(safe) do
    if not seen[payload] then wrong[#wrong + 1] = "lost" end
  end
  return wrong
end

local function round(seed)
  math.randomseed(seed)
  open { sync = "relaxed" }
  local pushed, all = populate()
  local path = store.path
  assert(store:close())
  local text = helper.read(path .. "/data.mdb")
  local file = assert(io.open(path .. "/data.mdb", "r+b"))
  local ranges = harm(file)
  file:close()
  local to = helper.location()
  local done = assert(respool.repair(path, to))
  store = assert(helper.open(to, { clock = "manual" }))
  local findings = table.concat(done.findings, "\n")
  local loose = done.nameless > 0 or findings:find "is damaged:" ~= nil
  local astray, safe = findings:find "nothing leads", {}
  for _, payload in ipairs(pushed) do
    if is_safe(text, payload, ranges) and not (astray and #payload > 16000) then
      safe[#safe + 1] = payload
    end
  end
  return { pushed = pushed, all = all, safe = safe, found = collect(),
           loose = loose, check = store:check(), done = done }
end

describe("repair of a store with random damage", function()
  it("brings back what is whole, unchanged and once", function()
    local rounds = os.getenv "FAULT" == "long" and 1000 or 8
    local hit = 0
    for i = 1, rounds do
      local r = round(helper.seed + i)
      local where = ("seed %d"):format(helper.seed + i)
      assert.same({}, r.check, where)
      assert.same({}, compare(r.pushed, r.safe, r.found, r.loose, r.all),
                  where)
      assert.is_true(#r.safe > #r.pushed / 4, where)
      hit = hit + (#r.done.findings > 0 and 1 or 0)
      store:close()
    end
    assert.is_true(hit > rounds / 4) -- the damage is felt
  end)

  it("is found out when it changes, doubles or loses (control)", function()
    local pushed = round(helper.seed).pushed
    local found = {}
    for i, payload in ipairs(pushed) do found[i] = payload end
    assert.same({}, compare(pushed, pushed, found))
    local one = table.remove(found)
    assert.same({ "lost" }, compare(pushed, { one }, found))
    found[#found + 1] = one .. "!"
    assert.same({ "changed" }, compare(pushed, {}, found))
    found[#found] = found[1]
    assert.same({ "doubled" }, compare(pushed, {}, found))
  end)
end)
