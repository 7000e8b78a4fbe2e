-- SPDX-License-Identifier: MIT
--
-- The operations on a queue and its model, by name: each does the same to both,
-- and compares what they say.

local model = require "spec.helper.model"

local random, max, min = math.random, math.max, math.min
local differs, same = model.differs, model.same

local KEYS = { "a", "b", "c", "d", "e", "f" }

-- What an item is done with; nil: nothing, which is told as true.
local function result_of(id)
  return id % 3 > 0 and { id, ("r"):rep(id % 200) } or nil
end

-- Outcomes: said to the store, and what becomes of the model's item then.
-- Those that make a dead letter note its reason in `expected`.
local OUTCOMES = {
  { "done", function(item) item:done(result_of(item.id)) end,
    function(m, item) m:finish(item, "done", result_of(item.id)) end },
  { "drop", function(item) item:drop() end,
    function(m, item) m:finish(item, "removed") end },
  { "release", function(item) item:release() end,
    function(m, item) m:wait(item, 0) end },
  { "snooze", function(item) item:snooze(item.id % 9) end,
    function(m, item) m:wait(item, item.id % 9 * 1000) end },
  { "dead", function(item) item:dead() end,
    function(_, item, expected) expected[item.id] = "rejected" end },
  { "retry", function(item) item:retry { delay = item.id % 20 } end,
    function(m, item, expected) m:fail(item, expected) end },
  { "hold", function(item) item:hold(item.id % 4) end,
    function(m, item) m:wait(item, 0) end },
}

-- That of a whole batch, whose items share their attempts.
local OUTAGE = {
  "outage", function(item)
    item:retry { delay = item.id % 20, group = "refused" }
  end,
  function(m, item, expected)
    local excuse = m.flow:excuse()
    m:fail(item, expected, excuse == "all" or excuse == "last"
      and item.attempts + 1 == model.MAX_ATTEMPTS)
  end,
}

-- Notes a settle for the flow, in the order of the batch.
local function note(m, batch, holds)
  m.flow:begin()
  for i = 1, #batch do
    local id = batch:item(i).id
    if holds[id] then m.flow:note(holds[id][1], id, m.now) end
  end
  for id, n in pairs(m.flow:refunds()) do
    local item = m.items[id]
    if item then item.attempts = max(item.attempts - n, 0) end
  end
end


-- Operations.

local OPERATIONS = {}

function OPERATIONS.push(m)
  m:tick()
  local list, n, priority = {}, random(6), random(0, 2)
  local delay = random(4) == 1 and random(40000) or nil
  local ttl = random(5) == 1 and random(90000) or nil
  local size = random(40) == 1 and 20000 or 0
  m:say("push %d, priority %d, delay %s, ttl %s", n, priority, delay, ttl)
  for i = 1, n do
    list[i] = ("%d/%d"):format(m.next_id + i - 1, random(9e6))
      .. ("x"):rep(size)
  end
  local first = assert(m.q:push_many(list, {
    priority = priority, delay = delay and delay / 1000,
    ttl = ttl and ttl / 1000 }))
  for i = 1, n do
    m:add(first + i - 1, list[i],
      { priority = priority, delay = delay, ttl = ttl })
  end
end

-- An expired item that is not leased holds no key: the push makes a dead letter
-- of it.
function OPERATIONS.push_key(m)
  local key = KEYS[random(#KEYS)]
  local how = ({ "fail", "ignore", "replace" })[random(3)]
  local ttl = random(2) == 1 and random(40000) or nil
  m:tick()
  local held = m.items[m.keys[key] or 0]
  local over = held and m:is_expired(held) and held
  if over then held = nil end
  m:say("push key %s, %s, ttl %s", key, how, ttl)
  local payload = ("%s/%d"):format(key, m.next_id)
  local id, message, code = m.q:push(payload, {
    key = key, on_conflict = how, ttl = ttl and ttl / 1000 })
  if held and how == "fail" then return same("EXISTS", code, "a held key") end
  if not id then differs("a push says %s", message) end
  if held and how == "ignore" then return same(held.id, id, "the holder") end
  m:read_dead_letters()
  if over then same(nil, m.items[over.id], "what held the key and expired") end
  if held and not m:is_held(held) then m:finish(held, "removed") end
  m:add(id, payload, { key = key, ttl = ttl })
  m.keys[key] = id
end

-- A taken item against the model's; it is leased in both then.
local function deliver(m, batch, taken)
  local item = m.items[taken.id]
  if not item then differs("item %d is delivered", taken.id) end
  same(true, m:is_available(item), "an item is there to be taken")
  same(false, m:must_wait(item, batch), "an earlier item is not over")
  same(item.payload, taken.payload, "payload")
  same(item.priority, taken.priority, "priority")
  same(item.attempts, taken.attempts, "attempts")
  same(item.deliveries + 1, taken.deliveries, "deliveries")
  same(item.crashes + (item.ends and 1 or 0), taken.crashes, "crashes")
  item.crashes, item.deliveries = taken.crashes, taken.deliveries
  item.batch, item.ends, item.progress = batch, m.now + model.LEASE, nil
  return item
end

-- First deliveries of a priority are in push order, whatever else is in the
-- batch.
local function check_order(m, item)
  for _, other in pairs(m.items) do
    if item.fresh and other.fresh and other.deliveries == 0
      and other.priority == item.priority and other.id < item.id
      and m:is_available(other) then
      differs("item %d comes before %d", item.id, other.id)
    end
  end
end

-- Of an ordered queue an item that expired while it was leased, and waits now,
-- may stand in the way until it is buried, at its due time at the latest. A
-- take that goes `along` with a settle only buries what it meets first.
local function check_batch(m, batch, most, along)
  m:read_dead_letters()
  local n, priority, crashed = m:available()
  most = min(most, m.flow:allows(m.now))
  if most == 0 then n, priority = 0, nil end
  if #batch > most then differs("%d items, not %d", #batch, most) end
  if not crashed then same(min(most, n), #batch, "items of a batch") end
  if not (m.ordered and (along or m:any_expired())) then
    same(n == 0, #batch == 0, "nothing to take")
    same(priority, #batch > 0 and batch:item(1).priority or nil,
         "the first priority")
  end
  local before = 255
  for i = 1, #batch do
    local item = deliver(m, batch, batch:item(i))
    if item.deliveries == 1 then check_order(m, item) end
    same(true, item.priority <= before, "priorities come from high to low")
    before = item.priority
  end
  m.flow:take(#batch, m.now, m.now + model.LEASE)
  m.taken = m.taken + #batch
  if #batch > 0 then table.insert(m.batches, batch) end
end

function OPERATIONS.take(m)
  local most = random(12)
  m:say("take %d", most)
  check_batch(m, assert(m.q:take { limit = most }), most)
end

-- Whether another has been given the item, or may have been, since its
-- lease in this batch ran out.
local function is_lost(m, id, batch)
  local item = m.items[id]
  if not item or item.batch ~= batch then return true end
  return not m:is_held(item) and m.q:get(id).crashes > item.crashes
end

-- Marks some items, with one outcome or with many; those that expired and
-- are not held cannot be looked at. Returns the outcomes that hold by the
-- items' ids, and how many are lost.
local function mark(m, batch)
  local holds, lost, one = {}, 0, random(3) == 1 and random(#OUTCOMES + 4)
  for i = 1, #batch do
    local id = batch:item(i).id
    local item = m.items[id]
    if (one or random(4) > 1) and not (item and m:is_expired(item)) then
      local outcome = OUTCOMES[one or random(#OUTCOMES)] or OUTAGE
      local gone = is_lost(m, id, batch)
      m:say("  item %d %s%s", id, outcome[1], gone and ", lost" or "")
      outcome[2](batch:item(i))
      if gone then lost = lost + 1 else holds[id] = outcome end
    end
  end
  return holds, lost
end

-- A batch is settled once; what is left of it runs out.
function OPERATIONS.settle(m)
  if #m.batches == 0 then return end
  m:tick()
  local batch, expected = table.remove(m.batches, random(#m.batches)), {}
  m:say("settle a batch of %d", #batch)
  local holds, lost = mark(m, batch)
  local along, more = random(3) == 1, random(3) == 1
  along = along and (lost > 0 or next(holds) ~= nil) -- with what is marked
  local ok, a, code, b = batch:settle {
    push = along and { { queue = m.real, payload = "along" } } or nil,
    take = more and { limit = 5 } or nil,
  }
  same(lost == 0 or nil, ok, "a settle")
  same(lost > 0 and "LEASE_LOST" or nil, code, "code of a settle")
  same(lost, batch.lost, "items lost")
  if ok and along then m:add(m.next_id, "along", {}) end
  if not ok and along then holds = {} end -- nothing has happened
  if next(holds) then note(m, batch, holds) end
  for id, outcome in pairs(holds) do outcome[3](m, m.items[id], expected) end
  m:read_dead_letters(expected)
  if ok and a or b then check_batch(m, ok and a or b, 5, true) end
end

-- A push, and the end of an item that is held, in one commit or not at all.
function OPERATIONS.transact(m)
  local batch = m.batches[random(max(#m.batches, 1))]
  local taken = batch and batch:item(random(#batch))
  local item = taken and m.items[taken.id]
  if not item or item.batch ~= batch or not m:is_held(item) then return end
  local fails = random(3) == 1
  m:say("transaction: push, item %d done%s", item.id, fails and ", fails" or "")
  local ok = pcall(m.store.transaction, m.store, function(tx)
    tx:push(m.real, "follow-up")
    tx:done(taken)
    if fails then error "no" end
  end)
  same(not fails, ok, "a transaction")
  if not ok then return end
  note(m, batch, { [item.id] = OUTCOMES[1] })
  m:add(m.next_id, "follow-up", {})
  m:finish(item, "done")
  for i, other in ipairs(m.batches) do -- its batch has done with it
    if other == batch then table.remove(m.batches, i) end
  end
end

function OPERATIONS.extend(m)
  local batch = m.batches[random(max(#m.batches, 1))]
  for i = 1, batch and #batch or 0 do
    local item = m.items[batch:item(i).id]
    if not item or item.batch ~= batch or not m:is_held(item) then return end
  end
  if not batch then return end
  local seconds = random(60)
  m:say("extend a lot of %d by %d s", #batch, seconds)
  same(true, (batch:extend(seconds)), "an extension")
  for i = 1, #batch do
    m.items[batch:item(i).id].ends = m.now + seconds * 1000
  end
  m.flow:extend(m.now + seconds * 1000)
end

-- A report within a second of one that was stored is not.
local function is_stored(last, part, wall)
  return not last or wall - last.at >= 1000 or wall < last.at
    or part == 1 and last.part ~= 1
end

-- A report of an item that is held, or that another has by now; not of one that
-- nobody has since its lease ran out.
function OPERATIONS.progress(m)
  local batch = m.batches[random(max(#m.batches, 1))]
  local taken = batch and batch:item(random(#batch))
  local item = taken and m.items[taken.id]
  local own = item and item.batch == batch
  if not taken or own and not m:is_held(item) then return end
  local part = random(0, 8) / 8
  m:say("item %d reports %g%s", taken.id, part, own and "" or ", lost")
  local ok, _, code = taken:progress(part)
  local reports = m.reports[batch] or {}
  m.reports[batch] = reports
  if not is_stored(reports[taken.id], part, m.wall) then
    return same(true, ok, "a report too soon")
  end
  same(own or nil, ok, "a report")
  same(not own and "LEASE_LOST" or nil, code, "code of a report")
  if not ok then return end
  item.progress = part
  reports[taken.id] = { at = m.wall, part = part }
end

function OPERATIONS.hold(m)
  m:tick()
  local ms = random(3) == 1 and 0 or random(20000)
  m:say("hold for %d ms", ms)
  assert(m.q:hold(ms / 1000))
  m.flow:hold(m.now, ms)
end

-- Another policy: with or without a rate and a breaker.
function OPERATIONS.policy(m)
  local rate = random(3) > 1 and {
    items = random(20), per = random(5), burst = random(20),
  }
  local breaker = random(3) > 1 and {
    failures = random(4), within = random(30), cooldown = random(20),
    probes = random(3),
  }
  m:say("rate %s, breaker %s", rate and rate.items / rate.per,
        breaker and breaker.failures)
  assert(m.store:queue("orders", { rate = rate, breaker = breaker }))
  m.flow:policy(rate, breaker, m.now)
end

function OPERATIONS.advance(m)
  local step = random(10000)
  m:say("advance %d ms", step)
  m.store:advance(step / 1000)
  m.wall, m.now = m.wall + step, m.now + step
end

-- The queue's time goes on from where it was.
function OPERATIONS.step_back(m)
  OPERATIONS.push(m)
  local step = random(1000, 1000000)
  m:say("the clock steps back by %d ms", step)
  m.store:advance(-step / 1000)
  m.wall = m.wall - step
  OPERATIONS.push(m)
end

function OPERATIONS.remove(m)
  local id = random(max(1, m.next_id - 60), m.next_id)
  local item = m.items[id]
  m:say("remove %d", id)
  local ok, _, code = m.q:remove(id)
  same(not item and "NOT_FOUND" or m:is_held(item) and "BUSY" or nil, code,
       "code of a removal")
  if ok then m:finish(item, "removed") end
end

function OPERATIONS.cancel(m)
  local id = random(max(1, m.next_id - 60), m.next_id)
  local item = m.items[id]
  m:say("cancel %d%s", id, item and m:is_held(item) and ", held" or "")
  m:read_dead_letters()
  local ok, _, code = m.q:cancel(id)
  same(not item and "NOT_FOUND" or nil, code, "code of a cancel")
  if ok then m:finish(item, "removed") end
end

-- Changes of one item that is not held.
local CHANGES = {
  { "run_now", function(m, id) return m.q:run_now(id) end,
    function(m, item)
      if m:state_of(item) ~= "ready" then item.due = m.now end
    end },
  { "kill", function(m, id) return m.q:kill(id) end,
    function(m, item) m:read_dead_letters { [item.id] = "killed" } end },
  { "edit", function(m, id) return m.q:edit(id, "edited " .. id) end,
    function(_, item) item.payload = "edited " .. item.id end },
  { "make large", function(m, id) return m.q:edit(id, ("x"):rep(20000)) end,
    function(_, item) item.payload = ("x"):rep(20000) end },
}

function OPERATIONS.change(m)
  local id = random(max(1, m.next_id - 60), m.next_id)
  local item, change = m.items[id], CHANGES[random(#CHANGES)]
  m:say("%s %d", change[1], id)
  m:read_dead_letters()
  local ok, _, code = change[2](m, id)
  same(not item and "NOT_FOUND" or m:is_held(item) and "BUSY" or nil, code,
       "code of a change")
  if ok then change[3](m, item) end
end

function OPERATIONS.purge(m)
  m:say "purge"
  local n = m.q:purge()
  for _, item in pairs(m.items) do
    if not m:is_held(item) then
      m:finish(item, "removed")
      n = n - 1
    end
  end
  same(0, n, "purged, beside the model")
end

local function lowest(dead_letters)
  local least
  for number in pairs(dead_letters) do least = min(least or number, number) end
  return least
end

-- An item takes its key up again unless another holds it by now.
local function revive(m, number)
  local item, id = m.dead_letters[number], m.next_id
  m.dead_letters[number] = nil
  m:tick()
  local key = not m.items[m.keys[item.key] or 0] and item.key or nil
  m:add(id, item.payload, { priority = item.priority, key = key })
  if key then m.keys[key] = id end
end

function OPERATIONS.retry_dead_letter(m)
  local number = lowest(m.dead_letters)
  if not number then return end
  m:say("dead letter %d goes back", number)
  same(true, (m.q.dead:retry(number)), "a dead letter goes back")
  revive(m, number)
end

function OPERATIONS.remove_dead_letter(m)
  local number = lowest(m.dead_letters)
  if not number then return end
  m:say("dead letter %d is removed", number)
  same(true, (m.q.dead:remove(number)), "a dead letter is removed")
  m.dead_letters[number] = nil
end

-- Moves dead letters back in their order: all, or those of odd numbers.
function OPERATIONS.replay(m)
  local limit, odd = random(5), random(2) == 1
  m:say("replay %d%s", limit, odd and " of odd numbers" or "")
  m.q.dead:replay { limit = limit, where = odd and function(dead_letter)
    return dead_letter.number % 2 == 1
  end or nil }
  local left = {}
  for number in pairs(m.dead_letters) do
    if not odd or number % 2 == 1 then left[#left + 1] = number end
  end
  table.sort(left)
  for i = 1, min(limit, #left) do revive(m, left[i]) end
end

-- Closing releases what is leased, of batches that are still held: one that was
-- collected before is not. The new clock is set by the model's.
function OPERATIONS.reopen(m)
  if m.location == ":memory:" then return end
  m:say "close and open"
  local held = { m.batches }
  for _, item in pairs(m.items) do
    held[#held + 1] = item.batch
    local batch = item.batch
    if batch and (m:is_expired(item) or not is_lost(m, item.id, batch)) then
      m:wait(item, 0)
      m.flow:note("release", item.id, m.now)
    end
  end
  m.batches = {}
  local ok, message, code = m.store:close()
  if not ok and code ~= "LEASE_LOST" then
    differs("close says %s, with %d batches", message, #held)
  end
  m:open()
  m.store:advance(m.base + m.wall / 1000 - m.store:now())
end

return OPERATIONS
