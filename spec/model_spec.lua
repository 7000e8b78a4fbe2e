-- SPDX-License-Identifier: MIT
--
-- A plain model of a queue beside a real one, under random operations. The
-- model knows no segments, claims or lanes' heads: a list of items, each
-- with its due time, lease and counts, times in milliseconds.
--
-- RESPOOL_SEED repeats a run.

local helper = require "spec.helper"

local random, huge = math.random, math.huge
local MAX_ATTEMPTS, MAX_CRASHES, LEASE = 3, 2, 30000

local store, q
local m -- the model: items by id, lots, letters by number, counts

local function ms(seconds)
  return math.floor((seconds - m.base) * 1000 + 0.5)
end

local function begin(location)
  store = assert(helper.open(location, {
    clock = "manual", seed = helper.seed, sync = "relaxed" }))
  q = assert(store:queue("orders", {
    max_attempts = MAX_ATTEMPTS, max_crashes = MAX_CRASHES,
    lease = LEASE / 1000,
  }))
  m = { base = store:now(), wall = 0, now = 0, next_id = 1, items = {},
        lots = {}, letters = {}, last_letter = 0, taken = 0,
        count = { pushed = 0, done = 0, died = 0, expired = 0, removed = 0 } }
end


-- The model.

local function is_held(item)
  return item.ends ~= nil and item.ends > m.now
end

local function is_expired(item)
  return item.expires <= m.now and not is_held(item)
end

local function state_of(item)
  if is_held(item) then return "leased" end
  if item.ends or item.due <= m.now then return "ready" end
  return "waiting"
end

local function is_available(item)
  return state_of(item) == "ready" and not is_expired(item)
end

-- How many there are, the highest lane of them, and whether any crashed:
-- such come in lots of their own.
local function available()
  local n, lane, crashed = 0, nil, false
  for _, item in pairs(m.items) do
    if is_available(item) then
      n = n + 1
      lane = math.max(lane or 0, item.lane)
    end
    crashed = crashed or state_of(item) == "ready"
      and (item.ends ~= nil or item.crashes > 0)
  end
  return n, lane, crashed
end

local function add(id, payload, lane, delay, ttl)
  assert.equal(m.next_id, id)
  m.items[id] = {
    id = id, payload = payload, lane = lane, due = m.now + (delay or 0),
    fresh = not delay, expires = ttl and m.now + ttl or huge, attempts = 0,
    deliveries = 0, crashes = 0,
  }
  m.next_id = id + 1
  m.count.pushed = m.count.pushed + 1
end

local function end_as(item, counter)
  m.items[item.id] = nil
  m.count[counter] = m.count[counter] + 1
end

-- Letters since the last look: those that `expected` names by their items'
-- ids, and those that a take makes by itself.
local function read_letters(expected)
  for _, letter in ipairs(q.dead:list { after = m.last_letter, limit = 1e6 })
  do
    local item = m.items[letter.id]
    assert.equal(item.payload, letter.payload)
    assert.equal(item.deliveries, letter.deliveries)
    if letter.reason == "expired" then
      assert.is_true(is_expired(item))
    elseif letter.reason == "crashed" then
      assert.is_true(item.ends <= m.now)
      assert.is_true(item.crashes + 1 >= MAX_CRASHES)
    else
      assert.equal(expected and expected[item.id], letter.reason)
      expected[item.id] = nil
    end
    end_as(item, letter.reason == "expired" and "expired" or "died")
    m.letters[letter.number] = item
    m.last_letter = letter.number
  end
  assert.is_nil(next(expected or {}))
end


-- Operations.

local function push()
  local list, n, lane = {}, random(6), random(0, 2)
  local delay = random(4) == 1 and random(40000) or nil
  local ttl = random(5) == 1 and random(90000) or nil
  for i = 1, n do list[i] = ("%d/%d"):format(m.next_id + i - 1, random(9e6)) end
  local first = assert(q:push_many(list, {
    priority = lane, delay = delay and delay / 1000,
    ttl = ttl and ttl / 1000 }))
  for i = 1, n do add(first + i - 1, list[i], lane, delay, ttl) end
end

-- A taken item against the model's; it is leased in both then.
local function deliver(lot, taken)
  local item = assert(m.items[taken.id])
  assert.is_true(is_available(item))
  assert.same({ item.payload, item.lane, item.attempts, item.deliveries + 1,
                item.crashes + (item.ends and 1 or 0) },
              { taken.payload, taken.priority, taken.attempts,
                taken.deliveries, taken.crashes })
  item.crashes, item.deliveries = taken.crashes, taken.deliveries
  item.lot, item.ends = lot, m.now + LEASE
  return item
end

-- First deliveries of a lane are in push order, whatever else is in the lot.
local function assert_first_in_line(item)
  for _, other in pairs(m.items) do
    assert.is_false(item.fresh and other.fresh and other.deliveries == 0
      and is_available(other) and other.lane == item.lane
      and other.id < item.id)
  end
end

local function check_lot(lot, most)
  read_letters()
  local n, lane, crashed = available()
  assert.is_true(#lot <= most)
  if not crashed then assert.equal(math.min(most, n), #lot) end
  assert.equal(n == 0, #lot == 0)
  if #lot > 0 then assert.equal(lane, lot:item(1).priority) end
  local before = 255
  for i = 1, #lot do
    local item = deliver(lot, lot:item(i))
    if item.deliveries == 1 then assert_first_in_line(item) end
    assert.is_true(item.lane <= before)
    before = item.lane
  end
  m.taken = m.taken + #lot
  if #lot > 0 then table.insert(m.lots, lot) end
end

local function take()
  local most = random(12)
  check_lot(assert(q:take { items = most }), most)
end

local function wait(item, delay)
  item.ends, item.lot, item.due = nil, nil, m.now + delay
end

-- Outcomes: said to the store, and what becomes of the model's item then.
-- Those that make a letter note its reason in `expected`.
local OUTCOMES = {
  { function(item) item:done() end,
    function(item) end_as(item, "done") end },
  { function(item) item:drop() end,
    function(item) end_as(item, "removed") end },
  { function(item) item:release() end,
    function(item) wait(item, 0) end },
  { function(item) item:snooze(item.id % 9) end,
    function(item) wait(item, item.id % 9 * 1000) end },
  { function(item) item:dead() end,
    function(item, expected) expected[item.id] = "rejected" end },
  { function(item) item:retry { delay = item.id % 20 } end,
    function(item, expected)
      if item.attempts + 1 == MAX_ATTEMPTS then
        expected[item.id] = "exhausted"
        return
      end
      item.attempts = item.attempts + 1
      wait(item, item.id % 20 * 1000)
    end },
}

-- Whether another has been given the item, or may have been, since its
-- lease in this lot ran out.
local function is_lost(id, lot)
  local item = m.items[id]
  if not item or item.lot ~= lot then return true end
  return not is_held(item) and q:get(id).crashes > item.crashes
end

-- Marks some items, with one outcome or with many; those that expired and
-- are not held cannot be looked at. Returns the outcomes that hold by the
-- items' ids, and how many are lost.
local function mark(lot)
  local holds, lost, same = {}, 0, random(3) == 1 and random(#OUTCOMES)
  for i = 1, #lot do
    local id = lot:item(i).id
    local item = m.items[id]
    if (same or random(4) > 1) and not (item and is_expired(item)) then
      local outcome = OUTCOMES[same or random(#OUTCOMES)]
      local gone = is_lost(id, lot)
      outcome[1](lot:item(i))
      if gone then lost = lost + 1 else holds[id] = outcome[2] end
    end
  end
  return holds, lost
end

-- A lot is settled once; what is left of it runs out.
local function settle()
  if #m.lots == 0 then return end
  local lot, expected = table.remove(m.lots, random(#m.lots)), {}
  local holds, lost = mark(lot)
  local along, more = random(3) == 1, random(3) == 1
  local ok, a, code, b = lot:settle {
    push = along and { { queue = q, payload = "along" } } or nil,
    take = more and { items = 5 } or nil,
  }
  assert.equal(lost == 0 and true or nil, ok)
  assert.equal(lost > 0 and "LEASE_LOST" or nil, code)
  assert.equal(lost, lot.lost)
  if ok and along then add(m.next_id, "along", 0) end
  if not ok and along then -- nothing has happened
    read_letters()
    lot:settle()
    assert.equal(lost, lot.lost)
  end
  for id, becomes in pairs(holds) do becomes(m.items[id], expected) end
  read_letters(expected)
  if ok and a or b then check_lot(ok and a or b, 5) end
end

local function extend()
  local lot = m.lots[random(math.max(#m.lots, 1))]
  for i = 1, lot and #lot or 0 do
    local item = m.items[lot:item(i).id]
    if not item or item.lot ~= lot or not is_held(item) then return end
  end
  if not lot then return end
  local seconds = random(60)
  assert.is_true(lot:extend(seconds))
  for i = 1, #lot do
    m.items[lot:item(i).id].ends = m.now + seconds * 1000
  end
end

local function advance()
  local step = random(10000)
  store:advance(step / 1000)
  m.wall, m.now = m.wall + step, m.now + step
end

-- The queue's time goes on from where it was.
local function step_back()
  push()
  local step = random(1000, 1000000)
  store:advance(-step / 1000)
  m.wall = m.wall - step
  push()
end

local function remove()
  local id = random(math.max(1, m.next_id - 60), m.next_id)
  local item = m.items[id]
  local ok, _, code = q:remove(id)
  assert.equal(not item and "NOT_FOUND" or is_held(item) and "BUSY" or nil,
               code)
  if ok then end_as(item, "removed") end
end

local function purge()
  local n = q:purge()
  for _, item in pairs(m.items) do
    if not is_held(item) then
      end_as(item, "removed")
      n = n - 1
    end
  end
  assert.equal(0, n)
end

local function replay()
  local number, item = next(m.letters)
  if not number then return end
  assert.is_true(q.dead:retry(number))
  m.letters[number] = nil
  add(m.next_id, item.payload, item.lane)
end


-- The whole of both.

local function look_at(item)
  if is_expired(item) or item.expires <= m.now then return end
  local seen = assert(q:get(item.id))
  assert.same({ state_of(item), item.attempts, item.deliveries, item.payload },
              { seen.state, seen.attempts, seen.deliveries, seen.payload })
  local at = item.ends or not item.fresh and item.due
  if at and at > m.now then assert.equal(at, ms(seen.visible_at)) end
end

local function compare()
  local length, stats, expired = q:length(), q:stats(), false
  local count = { ready = 0, leased = 0, waiting = 0 }
  for _, item in pairs(m.items) do
    look_at(item)
    expired = expired or is_expired(item)
    count[state_of(item)] = count[state_of(item)] + 1
  end
  assert.equal(count.ready + count.leased + count.waiting, length.total)
  for name, n in pairs(count) do
    if not expired then assert.equal(n, length[name]) end
  end
  for name, n in pairs(m.count) do assert.equal(n, stats[name], name) end
  assert.same({}, store:check())
end

-- Closing releases what is leased. The new clock is set by the model's.
local function reopen()
  for _, item in pairs(m.items) do
    if item.lot and (is_expired(item) or not is_lost(item.id, item.lot)) then
      wait(item, 0)
    end
  end
  m.lots = {}
  local ok, _, code = store:close()
  assert(ok or code == "LEASE_LOST")
  store = assert(helper.open(store.path, {
    clock = "manual", seed = helper.seed, sync = "relaxed" }))
  store:advance(m.base + m.wall / 1000 - store:now())
  q = assert(store:queue "orders")
end

-- Some operations come more often than others.
local OPERATIONS = {
  push, push, push, push, take, take, take, take, take, take, settle, settle,
  settle, settle, settle, extend, advance, advance, advance, remove, replay,
}

local function operate(n, rare)
  math.randomseed(helper.seed)
  for i = 1, n do
    local operation = OPERATIONS[random(#OPERATIONS)]
    if random(100) == 1 then operation = rare[random(#rare)] end
    local ok, problem = pcall(operation)
    if ok and i % 20 == 0 then ok, problem = pcall(compare) end
    if not ok then
      error(("operation %d of seed %d: %s"):format(
        i, helper.seed, tostring(problem)), 0)
    end
  end
  compare()
end

describe("a queue under random operations", function()
  it("does as its model does", function()
    begin ":memory:"
    operate(4000, { purge, step_back, step_back })
    assert.is_true(m.taken > 1000)
  end)

  it("does so when it is opened again and again", function()
    begin(helper.location())
    operate(600, { step_back, reopen, reopen, reopen })
    assert.is_true(m.taken > 100)
  end)
end)
