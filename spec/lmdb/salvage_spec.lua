-- SPDX-License-Identifier: MIT
--
-- Repair of stores with random damage: noise here and there, and single bytes
-- of the pages that lead to the items. What is whole comes back, unchanged.
--
-- RESPOOL_SEED repeats the damage; FAULT=long does much more of it.

local helper = require("spec.helper").without_journal()
local respool = require "respool"

local PAGE = 4096
local long = os.getenv "FAULT" == "long"

local store, q


-- A store with something of everything.

local function word(i)
  return ("<%d:%06d>"):format(i, math.random(999999))
end

-- Pushes lists of items of all sizes and settles some; returns the payloads
-- that are there, in queues and DLQs, and all that ever were.
local function populate()
  local there = {}
  local function push(n, size, options)
    local list = {}
    for i = 1, n do
      list[i] = word(#there + i)
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
    local batch = q:take { limit = math.random(20) }
    for i = 1, #batch do
      local way = math.random(4)
      local item = batch:item(i)
      if way == 1 then
        gone[item.payload] = true
        item:done()
      elseif way == 2 then item:dead { error = "no" }
      elseif way == 3 then item:retry { delay = 900 } end
    end
    assert(batch:settle())
  end
  local left = {}
  for _, payload in ipairs(there) do
    if not gone[payload] then left[#left + 1] = payload end
  end
  return left, there
end

-- Where a payload lies: it repeats its first word, wherever parts of it are.
local function places(bytes, payload)
  local list, from, first = {}, 1, payload:match "^<.->"
  while true do
    local a, b = bytes:find(first, from, true)
    if not a then return list end
    list[#list + 1] = a - 1
    from = b + 1
  end
end

-- The same, with the file's bytes and where in it which payload lies.
local function make(seed)
  math.randomseed(seed)
  store = helper.store { sync = "relaxed" }
  q = assert(store:queue("orders", { codec = "raw" }))
  local left, all = populate()
  local path = store.path
  assert(store:close())
  local bytes, at = helper.read(path .. "/data.mdb"), {}
  for _, payload in ipairs(left) do at[payload] = places(bytes, payload) end
  return { left = left, all = all, path = path, bytes = bytes, at = at }
end

-- The payloads of all queues and DLQs of the repaired store.
local function collect()
  local found = {}
  for _, name in ipairs(store:queues()) do
    for item in assert(store:queue(name, { codec = "raw" })):each() do
      found[#found + 1] = item.payload
    end
  end
  for _, name in ipairs(store:dead_letter_queues()) do
    for dead_letter in store:dead(name, { codec = "raw" }):each() do
      if dead_letter.reason ~= "undecodable" then
        found[#found + 1] = dead_letter.payload
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

-- What is wrong with what came back: a list of words. Where a finding says so,
-- settled items may be back, and others twice.
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

-- Puts a store with these bytes in the place of `made`, repairs it and looks;
-- `is_safe` tells of a payload whether it must be back.
local function repaired(made, bytes, is_safe)
  helper.write(made.path .. "/data.mdb", bytes)
  local to = helper.location()
  local done = assert(respool.repair(made.path, to))
  store = assert(helper.open(to, { clock = "manual" }))
  local findings, safe = table.concat(done.findings, "\n"), {}
  for _, payload in ipairs(made.left) do
    if is_safe(payload, findings) then safe[#safe + 1] = payload end
  end
  local loose = done.nameless > 0 or findings:find "may be back" ~= nil
  local found = collect()
  return { safe = safe, found = found, check = store:check(), done = done,
           wrong = compare(made.left, safe, found, loose, made.all) }
end


-- Noise.

-- Overwrites some ranges at random; returns the bytes and the ranges.
local function noise(bytes)
  local ranges = {}
  for i = 1, math.random(3) do
    local length = math.random(16, PAGE)
    local from = math.random(0, #bytes - length)
    local list = {}
    for k = 1, length do list[k] = string.char(math.random(0, 255)) end
    bytes = bytes:sub(1, from) .. table.concat(list)
      .. bytes:sub(from + length + 1)
    ranges[i] = { from, from + length }
  end
  return bytes, ranges
end

-- Far enough from all damage that its pages are whole, wherever it lies.
local function far_from(ranges, made)
  return function(payload)
    for _, at in ipairs(made.at[payload]) do
      for _, range in ipairs(ranges) do
        if at - 5 * PAGE < range[2] and at + 5 * PAGE > range[1] then
          return false
        end
      end
    end
    return true
  end
end

local function noisy(seed)
  local made = make(seed)
  local bytes, ranges = noise(made.bytes)
  local r = repaired(made, bytes, far_from(ranges, made))
  r.left = made.left
  return r
end

describe("repair of a store with noise in it", function()
  it("brings back what is whole, unchanged and once", function()
    local rounds = long and 1000 or 8
    local hit = 0
    for i = 1, rounds do
      local r = noisy(helper.seed + i)
      local where = ("seed %d"):format(helper.seed + i)
      assert.same({}, r.check, where)
      assert.same({}, r.wrong, where)
      assert.is_true(#r.safe > #r.left / 4, where)
      hit = hit + (#r.done.findings > 0 and 1 or 0)
      store:close()
    end
    assert.is_true(hit > rounds / 4) -- the damage is felt
  end)

  it("is found out when it changes, doubles or loses (control)", function()
    local pushed = make(helper.seed).left
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


-- Single bytes.

local OVERFLOW = 4
local NODE = 2100 -- bytes; no node within a page is larger

local function number(bytes, at, size)
  local n = 0
  for i = size, 1, -1 do n = n * 256 + bytes:byte(at + i) end
  return n
end

-- The numbers of the pages that hold keys, and all that leads to items.
local function leading_pages(bytes)
  local list, page = {}, 0
  while page < #bytes / PAGE do
    local at, run = page * PAGE, 1
    if number(bytes, at, 4) == page and number(bytes, at + 10, 2) == OVERFLOW
    then
      run = math.max(1, number(bytes, at + 12, 4))
    else
      list[#list + 1] = page
    end
    page = page + run
  end
  return list
end

-- Is the byte in a bitmap? Nothing tells when one changes as to which items it
-- calls settled, but not as to how many. Of our values only these begin as byte
-- strings, and of their keys all have sixteen bytes.
local function in_bitmap(bytes, byte)
  local page = byte - byte % PAGE
  local ends = math.min(number(bytes, page + 12, 2), PAGE)
  for place = page + 16, page + ends - 2, 2 do
    local node = page + number(bytes, place, 2) % (PAGE - 24)
    local value = node + 24
    local size = number(bytes, node, 2)
    if number(bytes, node + 6, 2) == 16 and byte >= value
      and byte < value + size and bytes:byte(value + 1) < 0x60 then
      return true
    end
  end
  return false
end

local LARGE = 16300 -- bytes; more are stored in parts, each under its key

-- Not in a node that has the byte, nor in parts that one has the key of.
local function outside(byte, made)
  local page = math.floor(byte / PAGE)
  return function(payload, findings)
    if #payload > LARGE and findings:find "blob is damaged" then
      return false
    end
    for _, at in ipairs(made.at[payload]) do
      if math.floor(at / PAGE) == page and math.abs(at - byte) < NODE then
        return false
      end
    end
    return true
  end
end

-- The bytes of a segment lay in pages of their own, and its node was taken to
-- hold them: what the node held was copied, and what the pages held was not.
describe("repair of a store in which a node is said to hold its value",
         function()
  it("finds the value where it is", function()
    store = helper.store { sync = "relaxed" }
    q = assert(store:queue("orders", { codec = "raw" }))
    local want = {}
    for i = 1, 100 do -- so many that the last node has as much behind it
      want[i] = word(i):rep(220)
      assert(q:push(want[i]))
    end
    local path = store.path
    assert(store:close())
    local node = "%z%z%z\1%z%z%z%z%z%z%z%z%z\100%z\1" -- its key
    local bytes, n = helper.read(path .. "/data.mdb")
      :gsub("\1(%z\16%z" .. node .. ")", "\46%1")
    assert.is_true(n > 0)
    local r = repaired({ path = path, left = want }, bytes,
                       function() return true end)
    assert.same({}, r.check)
    assert.same({}, r.wrong)
  end)
end)

describe("repair of a store with one wrong byte", function()
  it("loses what the byte belongs to, and nothing else", function()
    for i = 1, long and 10 or 2 do
      local made = make(helper.seed + i)
      local pages = leading_pages(made.bytes)
      for k = 1, long and 500 or 50 do
        math.randomseed(helper.seed + 1000 * i + k)
        local head = math.random(2) == 1 and 64 or PAGE
        local at
        repeat
          at = pages[math.random(#pages)] * PAGE + math.random(0, head - 1)
        until not in_bitmap(made.bytes, at)
        local bytes = made.bytes:sub(1, at)
          .. string.char((made.bytes:byte(at + 1) + math.random(255)) % 256)
          .. made.bytes:sub(at + 2)
        local r = repaired(made, bytes, outside(at, made))
        local where = ("seed %d, store %d, byte %d at %d")
          :format(helper.seed, i, k, at)
        assert.same({}, r.check, where)
        assert.same({}, r.wrong, where)
        assert.is_true(#r.safe > #made.left / 2, where)
        store:close()
      end
    end
  end)
end)
