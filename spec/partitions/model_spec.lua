-- SPDX-License-Identifier: MIT
--
-- Partitions under random operations. After each of them, or after some, the
-- store finds nothing wrong with itself; no partition has more leased than it
-- may, is taken from while it is held, or gives more at once than its rate
-- allows; first deliveries are in the order of pushes, all of them in that
-- order where it is strict; no item is given twice. Items are also cancelled,
-- killed, edited, run now, moved to another queue and back, and replayed. At
-- the end every item has been delivered, or is known to have ended.
-- RESPOOL_SEED repeats a run.

local helper = require "spec.helper"

local LONG = os.getenv "FAULT" == "long"
local ROUNDS, STEPS = LONG and 200 or 6, 150
local EACH = 1 -- steps are followed by a check
if helper.engine == "postgres" then
  ROUNDS, STEPS, EACH = LONG and 40 or 3, 100, 10
end
local LEASE = 10
local KEYS = { "a", "b", "c", "d", "e", ("x"):rep(255) }
local RARE = 400 -- other keys, most of them of one item at a time

local random = math.random

---@class respool.spec.partitions
local Run = {}
Run.__index = Run

local function new(seed)
  math.randomseed(seed)
  local run = setmetatable({
    store = helper.store { seed = seed }, live = {}, held = {}, most = 2,
    last = {}, holds = {}, rate = math.huge,
  }, Run)
  run.most = random(2) == 1 and 2 or 0
  run:open { concurrency = run.most }
  run.other = assert(run.store:queue "other")
  return run
end

function Run:open(partitions)
  self.q = assert(self.store:queue("q", {
    partitions = partitions, lease = LEASE,
  }))
end

local function rare()
  return "key " .. random(RARE)
end

-- Some keys for `n` items: one, a few, for some none, or very many.
local function keys(n)
  local list, way = {}, random(4)
  for i = 1, n do
    list[i] = KEYS[way == 1 and 1 or random(#KEYS)]
    if way == 3 and random(4) == 1 then list[i] = false end
    if way == 4 then list[i] = rare() end
  end
  return list
end

function Run:push()
  local n = random(10) == 1 and random(100, 300) or random(20)
  local list, of, at = {}, keys(n), 0
  for i = 1, n do
    list[i] = { i = i, large = random(40) == 1 and ("z"):rep(30000) or nil }
  end
  local priority, now = random(0, 1), self.store:now()
  local delay = random(5) == 1 and random(30) or nil
  local ttl = random(12) == 1 and random(40) or nil
  local first = assert(self.q:push_many(list, {
    priority = priority, delay = delay, ttl = ttl,
    partition = function()
      at = at + 1
      return of[at] or nil
    end,
  }))
  for i = 1, n do
    self.live[first + i - 1] = {
      key = of[i], line = of[i] and of[i] .. priority, fresh = not delay,
      ends = ttl and now + ttl or math.huge,
    }
  end
end

-- Those whose lease has not run out.
function Run:current()
  local list = {}
  for _, h in ipairs(self.held) do
    if h.ends > self.store:now() then list[#list + 1] = h end
  end
  return list
end

-- Of the partition with most items leased, and its key.
function Run:most_leased()
  local counts, most, of = {}, 0, ""
  for _, h in ipairs(self:current()) do
    for _, key in pairs(h.items) do
      if key then counts[key] = (counts[key] or 0) + 1 end
      if key and counts[key] > most then most, of = counts[key], key end
    end
  end
  return most, of
end

function Run:check_bounds()
  local n, key = self:most_leased()
  assert(self.most == 0 or n <= self.most,
         ("%d of '%s' are leased"):format(n, key:sub(1, 8)))
end

-- Items that were never delivered come in the order of pushes.
function Run:check_first(id, known)
  if not known.fresh or not known.line then return end
  known.fresh = false
  assert((self.last[known.line] or 0) < id, "a first delivery out of order")
  self.last[known.line] = id
end

-- In strict order nothing earlier of its line is left; what failed too often is
-- not in the queue any more.
function Run:check_strict(items)
  local now = self.store:now()
  for id in pairs(items) do
    local line = self.live[id].line
    for earlier, known in pairs(line and self.live or {}) do
      assert(known.line ~= line or earlier >= id or items[earlier] ~= nil
        or known.ends <= now or not self.q:get(earlier),
        "an item before an earlier one")
    end
  end
end

-- What a hold and a rate allow.
function Run:check_flow(items)
  local counts = {}
  for _, key in pairs(items) do
    if key then counts[key] = (counts[key] or 0) + 1 end
  end
  for key, n in pairs(counts) do
    assert((self.holds[key] or 0) <= self.store:now(), "an item that is held")
    assert(n <= self.rate, "more than the rate")
  end
end

function Run:take()
  local batch = assert(self.q:take {
    limit = random(30), bytes = random(4) == 1 and 3000 or nil,
  })
  local items = {}
  for i = 1, #batch do
    local item = batch:item(i)
    local known = assert(self.live[item.id], "an item that has ended")
    assert(known.key == (item.partition or false), "another partition")
    for _, h in ipairs(self:current()) do
      assert(h.items[item.id] == nil, "an item twice")
    end
    items[item.id] = known.key
    self:check_first(item.id, known)
  end
  self:check_flow(items)
  if self.ordered then self:check_strict(items) end
  if #batch == 0 then
    batch:close()
    return
  end
  self.held[#self.held + 1] = {
    batch = batch, ends = self.store:now() + LEASE, items = items,
  }
  self:check_bounds()
end

local MARKS = {
  function(item) item:done() return true end,
  function(item) item:done() return true end,
  function(item) item:drop() return true end,
  function(item) item:retry { error = "e", delay = random(0, 12) } end,
  function(item) item:release() end,
  function(item) item:snooze(random(0, 12)) end,
  function(item, run)
    local seconds = random(1, 12)
    item:hold(seconds)
    run:note_hold(item.partition, seconds)
  end,
}

-- A hold lasts as long as the one before, at least. One of the queue, by an
-- item without a partition, is not looked at.
function Run:note_hold(key, seconds)
  if not key then return end
  local till = self.store:now() + seconds
  self.holds[key] = math.max(self.holds[key] or 0, till)
end

function Run:settle()
  if #self.held == 0 then return end
  local h = table.remove(self.held, random(#self.held))
  if h.ends <= self.store:now() then
    h.batch:close()
    return
  end
  for i = 1, #h.batch do
    local item = h.batch:item(i)
    local mark = MARKS[random(#MARKS + 2)]
    if mark and h.items[item.id] ~= nil then
      if mark(item, self) then self.live[item.id] = nil end
      h.items[item.id] = nil
    end
  end
  assert(h.batch:settle())
  if next(h.items) ~= nil then self.held[#self.held + 1] = h end
end

-- One of those that may be there; 0, which none has, where there is none.
function Run:any()
  local ids = {}
  for id in pairs(self.live) do ids[#ids + 1] = id end
  table.sort(ids)
  return ids[random(math.max(#ids, 1))] or 0
end

-- It has ended, if that succeeded.
function Run:note_end(id, ok)
  if not ok then return end
  self.live[id] = nil
  for _, h in ipairs(self.held) do h.items[id] = nil end
end

function Run:remove()
  local id = self:any()
  if id > 0 then self:note_end(id, (self.q:remove(id))) end
end

function Run:cancel()
  local id = self:any()
  if id > 0 then self:note_end(id, (self.q:cancel(id))) end
end

function Run:kill()
  local id = self:any()
  if id > 0 then self:note_end(id, (self.q:kill(id))) end
end

-- What of it is still leased keeps its payload.
function Run:edit()
  local id = self:any()
  local payload = random(10) == 1 and ("y"):rep(30000) or "new"
  local _ = id > 0 and self.q:edit(id, payload)
end

function Run:run_now()
  local id = self:any()
  local _ = id > 0 and self.q:run_now(id)
end

-- Items that have come to the queue by another way than a push.
function Run:adopt()
  for item in self.q:each() do
    local key = item.partition or false
    self.live[item.id] = self.live[item.id] or {
      key = key, line = key and key .. item.priority, fresh = false,
      ends = item.expires_at or math.huge,
    }
  end
end

function Run:move()
  local id = self:any()
  if id > 0 then self:note_end(id, (self.q:move(id, self.other))) end
end

function Run:move_back()
  for item in self.other:each() do
    local _ = random(3) > 1 and self.other:move(item.id, self.q)
  end
  self:adopt()
end

function Run:replay()
  local dead = self.store:dead "q"
  for letter in dead:each() do self.live[letter.id] = nil end
  assert(dead:replay())
  self:adopt()
end

function Run:purge()
  local kept = {}
  assert(self.q:purge())
  for _, h in ipairs(self:current()) do
    for id in pairs(h.items) do kept[id] = self.live[id] end
  end
  self.live = kept
end

-- Half of them bound nothing. Leases that were given under a higher bound end
-- first.
function Run:policy()
  local free = random(2) == 1
  self.most = (free or random(5) == 1) and 0 or random(4)
  self.ordered = not free and random(2) == 1
  local rate = not free and random(2) == 1 and { items = random(20), per = 1 }
  self.rate = rate and rate.items or math.huge
  self:open {
    concurrency = self.most, ordered = self.ordered,
    batch = free and 0 or random(0, 3), rate = rate,
  }
  while self.most > 0 and self:most_leased() > self.most do
    self.store:advance(LEASE + 1)
  end
end

function Run:hold()
  local seconds = random(0, 20)
  local key = random(2) == 1 and KEYS[random(#KEYS)] or rare()
  assert(self.q:hold(seconds, { partition = key }))
  if seconds == 0 then self.holds[key] = nil end
  self:note_hold(key, seconds)
end

function Run:wait()
  self.store:advance(random(0, 60) / 10)
end

function Run:lapse()
  self.store:advance(LEASE + 1)
end

local OFTEN = {}
for name, times in pairs {
  push = 30, take = 30, settle = 25, wait = 10, remove = 5, policy = 4,
  hold = 5, lapse = 2, purge = 1, cancel = 4, kill = 3, edit = 3, run_now = 3,
  move = 4, move_back = 1, replay = 1,
} do
  for _ = 1, times do OFTEN[#OFTEN + 1] = name end
end
table.sort(OFTEN)

function Run:drain()
  self:open { concurrency = 0, ordered = false, batch = 0, rate = false }
  for _ = 1, 5000 do
    local batch = assert(self.q:take { limit = 100 })
    local s = self.q:stats()
    if #batch == 0 and s.ready + s.scheduled + s.retrying + s.leased == 0 then
      return
    end
    for i = 1, #batch do
      local id = batch:item(i).id
      assert(self.live[id], "an item that has ended")
      self.live[id] = nil
    end
    batch:done()
    assert(batch:settle())
    if #batch == 0 then self.store:advance(5) end
  end
  error "something is stuck"
end

-- What was not delivered has expired, or failed too often.
function Run:check_ended()
  for letter in self.store:dead("q"):each() do self.live[letter.id] = nil end
  assert.same({}, self.live)
  self.store:advance(100)
  assert(self.q:take():close())
  assert.same({}, self.q:partitions())
end

describe("partitions under random operations", function()
  for round = 1, ROUNDS do
    it("keep their bounds, and lose nothing: " .. round, function()
      local run = new(helper.seed + round)
      for step = 1, STEPS do
        local name = OFTEN[random(#OFTEN)]
        run[name](run)
        if step % EACH == 0 then assert.same({}, run.store:check(), name) end
      end
      run:drain()
      assert.same({}, run.store:check())
      run:check_ended()
      run.store:close()
    end)
  end
end)
