-- SPDX-License-Identifier: MIT
--
-- A plain model of a queue, beside a real one. It knows no segments, claims
-- or priorities' heads: a list of items, each with its due time, lease and
-- counts, times in milliseconds. An operation (model_operations.lua) does the
-- same to both and compares what they say; chance comes from math.random, so
-- that an operation with its seed can be done again. A difference is an error
-- that says how.
--
-- The time is the store's manual clock; `wall` may step back, the queue's own
-- time (`now`) does not, as long as the queue holds something.

local flow = require "spec.helper.flow_model"
local respool = require "respool"

local random, huge, max, min = math.random, math.huge, math.max, math.min
local floor = math.floor

local M = { MAX_ATTEMPTS = 3, MAX_CRASHES = 2, LEASE = 30000 }
M.__index = M

function M.differs(fmt, ...)
  error({ differs = fmt:format(...) }, 0)
end

function M.same(want, have, what)
  if want ~= have then
    M.differs("%s: the model says %s, the store %s", what, tostring(want),
              tostring(have))
  end
end

-- A model beside a new store. Options: `ordered`, of the queue; `wrap`, a
-- function that gets the queue and returns the one to call instead; `journal`,
-- the store's option, or "changes": another each time it is opened; `results`:
-- the queue keeps what items were done with.
function M.new(location, seed, options)
  local m = setmetatable({
    location = location, seed = seed, wrap = options.wrap,
    ordered = options.ordered, journal = options.journal, opened = 0,
    keep_done = options.results and huge or 0, finished = {}, reports = {},
    wall = 0, now = 0,
    next_id = 1, items = {}, batches = {}, dead_letters = {}, keys = {},
    last_dead_letter = 0, taken = 0, said = {}, flow = flow.new(),
    count = { pushed = 0, done = 0, died = 0, expired = 0, removed = 0 },
  }, M)
  m:open()
  m.base = m.store:now()
  return m
end

function M:open()
  local journal = self.journal
  if journal == "changes" then journal = self.opened % 2 == 0 end
  self.opened = self.opened + 1
  self.store = assert(respool.open(self.location, {
    clock = "manual", seed = self.seed, sync = "relaxed", log = false,
    journal = journal,
  }))
  local q = assert(self.store:queue("orders", {
    max_attempts = M.MAX_ATTEMPTS, max_crashes = M.MAX_CRASHES,
    lease = M.LEASE / 1000, codec = "raw", ordered = self.ordered,
    keep_done = self.keep_done,
  }))
  self.real = q -- for what wants the queue itself
  self.q = self.wrap and self.wrap(q) or q
end

-- Notes what the operation at hand does, for the reader of a failure.
function M:say(fmt, ...)
  self.said[#self.said + 1] = fmt:format(...)
end


-- The model.

function M:is_held(item)
  return item.ends ~= nil and item.ends > self.now
end

function M:is_expired(item)
  return item.expires <= self.now and not self:is_held(item)
end

function M:state_of(item)
  if self:is_held(item) then return "leased" end
  if item.ends or item.due <= self.now then return "ready" end
  if item.failed or item.crashes > 0 then return "retrying" end
  return "scheduled"
end

function M:is_available(item)
  return self:state_of(item) == "ready" and not self:is_expired(item)
end

-- Of an ordered queue: is an earlier item of its priority not over, and in
-- another batch than `batch`?
function M:must_wait(item, batch)
  if not self.ordered then return false end
  for id, other in pairs(self.items) do
    if id < item.id and other.priority == item.priority
      and (not batch or other.batch ~= batch) and not self:is_expired(other)
    then
      return true
    end
  end
  return false
end

-- How many there are, the highest priority of them, and whether any crashed:
-- such come in batches of their own. Of an ordered queue only the first items
-- count.
function M:available()
  local n, priority, crashed = 0, nil, self.ordered
  for _, item in pairs(self.items) do
    if self:is_available(item) and not self:must_wait(item) then
      n = n + 1
      priority = max(priority or 0, item.priority)
    end
    crashed = crashed or self:state_of(item) == "ready"
      and (item.ends ~= nil or item.crashes > 0)
  end
  return n, priority, crashed
end

function M:any_expired()
  for _, item in pairs(self.items) do
    if self:is_expired(item) then return true end
  end
  return false
end

-- What fell behind is forgotten with the last item.
function M:tick()
  if next(self.items) ~= nil then return end
  self.flow:shift(self.wall - self.now)
  self.now = self.wall
end

function M:add(id, payload, o)
  M.same(self.next_id, id, "id of a new item")
  self.items[id] = {
    id = id, payload = payload, priority = o.priority or 0,
    due = self.now + (o.delay or 0), fresh = not o.delay, key = o.key,
    expires = o.ttl and self.now + o.ttl or huge, attempts = 0,
    deliveries = 0, crashes = 0,
  }
  self.next_id = id + 1
  self.count.pushed = self.count.pushed + 1
end

function M:finish(item, counter, result)
  self.items[item.id] = nil
  if counter == "done" then
    self.finished[#self.finished + 1] = { id = item.id, result = result }
  end
  self.count[counter] = self.count[counter] + 1
  if item.key and self.keys[item.key] == item.id then
    self.keys[item.key] = nil
  end
end

-- Dead letters since the last look: those that `expected` names by their items'
-- ids, and those that a take makes by itself.
function M:read_dead_letters(expected)
  for _, dead_letter in ipairs(self.q.dead:list { after = self.last_dead_letter,
                                             limit = 1e6 }) do
    local item = self.items[dead_letter.id]
    if not item then M.differs("a dead letter of item %d", dead_letter.id) end
    M.same(item.payload, dead_letter.payload, "payload of a dead letter")
    M.same(item.deliveries, dead_letter.deliveries,
           "deliveries in a dead letter")
    if dead_letter.reason == "expired" then
      M.same(true, self:is_expired(item), "an item expired")
    elseif dead_letter.reason == "crashed" then
      M.same(true, item.ends <= self.now and item.crashes + 1 >= M.MAX_CRASHES,
             "an item crashed")
    else
      M.same(expected and expected[item.id], dead_letter.reason, "a reason")
      expected[item.id] = nil
    end
    self:finish(item, dead_letter.reason == "expired" and "expired" or "died")
    self.dead_letters[dead_letter.number] = item
    self.last_dead_letter = dead_letter.number
  end
  M.same(nil, next(expected or {}), "an item without a dead letter")
end

function M:wait(item, delay)
  item.ends, item.batch, item.due = nil, nil, self.now + delay
end

-- A failure: the item waits, or dies of it.
function M:fail(item, expected, excused)
  item.failed = true
  if excused then return self:wait(item, item.id % 20 * 1000) end
  if item.attempts + 1 == M.MAX_ATTEMPTS then
    expected[item.id] = "exhausted"
    return
  end
  item.attempts = item.attempts + 1
  self:wait(item, item.id % 20 * 1000)
end

-- The whole of both.

function M:look_at(item)
  if self:is_expired(item) or item.expires <= self.now then return end
  local seen, message = self.q:get(item.id)
  if not seen then M.differs("item %d: %s", item.id, message) end
  M.same(self:state_of(item), seen.state, "state")
  M.same(item.attempts, seen.attempts, "attempts")
  M.same(item.deliveries, seen.deliveries, "deliveries")
  M.same(item.payload, seen.payload, "payload")
  M.same(item.key, seen.key, "key")
  if self:is_held(item) then
    M.same(item.progress, seen.progress and seen.progress.done, "progress")
  end
  local at = item.ends or not item.fresh and item.due
  if at and at > self.now then
    M.same(at, floor((seen.visible_at - self.base) * 1000 + 0.5), "visible_at")
  end
end

-- Of some of those that are done.
function M:look_at_results()
  for _ = 1, self.keep_done > 0 and min(20, #self.finished) or 0 do
    local of = self.finished[random(#self.finished)]
    local result, message = self.q:result(of.id)
    if result == nil then M.differs("result of %d: %s", of.id, message) end
    local want, told = of.result or { true }, result
    if result == true then told = { true } end
    M.same(want[1], told[1], "a result")
    M.same(want[2], told[2], "a result")
  end
end

function M:compare()
  self:look_at_results()
  local length, stats, expired = self.q:length(), self.q:stats(), false
  local count = { ready = 0, leased = 0, scheduled = 0, retrying = 0 }
  for _, item in pairs(self.items) do
    self:look_at(item)
    expired = expired or self:is_expired(item)
    local state = self:state_of(item)
    count[state] = count[state] + 1
  end
  M.same(count.ready + count.leased + count.scheduled + count.retrying,
         length.total, "items")
  for name, n in pairs(count) do
    if not expired then M.same(n, length[name], name) end
  end
  for name, n in pairs(self.count) do M.same(n, stats[name], name) end
  for name, value in pairs(self.flow:told(self.now)) do
    M.same(value, stats[name], name)
  end
  M.same(nil, self.store:check()[1], "check")
end

function M:close()
  for _, batch in ipairs(self.batches) do batch:close() end
  self.store:close()
end

return M
