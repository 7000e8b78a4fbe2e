-- SPDX-License-Identifier: MIT
--
-- The model of a queue's flow: a hold, the bucket of a rate, a breaker. Times
-- are milliseconds by the model's clock.

local floor, huge, max, min = math.floor, math.huge, math.max, math.min

local M = {}
M.__index = M

function M.new()
  return setmetatable({
    held = -huge, rate = false, tokens = nil, at = 0, breaker = false,
    state = "closed", till = 0, probes = 0, failed_at = -huge, row = {},
    old = 0, back = {}, opened = 0, outages = 0,
  }, M)
end

function M:hold(now, ms)
  self.held = ms == 0 and -huge or max(self.held, now + ms)
end

-- The clock jumps.
function M:shift(ms)
  self.held, self.at = self.held + ms, self.at + ms
  self.till, self.failed_at = self.till + ms, self.failed_at + ms
end


-- The rate. Tokens are counted in parts of one of which each millisecond
-- brings `items`, so that they stay whole.

local function size(rate)
  return rate.burst * rate.per * 1000
end

function M:level(now)
  if not self.tokens then return size(self.rate) end
  local more = max(now - self.at, 0) * self.rate.items
  return min(self.tokens + more, size(self.rate))
end

local function differs(a, b)
  if not a or not b then return a ~= b end
  return a.items ~= b.items or a.per ~= b.per or a.burst ~= b.burst
end

function M:policy(rate, breaker, now)
  if self.tokens and differs(self.rate, rate) then
    local whole = floor(self:level(now) / (self.rate.per * 1000))
    self.tokens = rate and min(whole * rate.per * 1000, size(rate)) or nil
    self.at = now
  end
  if not breaker then self:close() end
  self.rate, self.breaker = rate, breaker
end


-- The breaker.

function M:close()
  self.state, self.till, self.probes, self.row, self.old = "closed", 0, 0, {}, 0
end

-- A settle begins.
function M:begin()
  self.old, self.back = #self.row, {}
end

local function outage(self, id, now)
  self.outages = self.outages + 1
  if self.state == "half_open" then
    self.state, self.till = "open", now + self.breaker.cooldown * 1000
  end
  if self.state ~= "closed" then
    self.probes = max(self.probes - 1, 0)
    return
  end
  if now - self.failed_at > self.breaker.within * 1000 then
    self.row, self.old = {}, 0
  end
  self.failed_at = now
  table.insert(self.row, id)
  if #self.row < self.breaker.failures then return end
  for i = 1, self.old do
    local one = self.row[i]
    self.back[one] = (self.back[one] or 0) + 1
  end
  self.state, self.till = "open", now + self.breaker.cooldown * 1000
  self.probes, self.row, self.opened = 0, {}, self.opened + 1
end

function M:note(outcome, id, now)
  if outcome == "hold" and id % 4 > 0 then self:hold(now, id % 4 * 1000) end
  if not self.breaker then return end
  if outcome == "outage" then return outage(self, id, now) end
  if outcome ~= "done" then
    self.probes = max(self.probes - 1, 0)
  elseif self.state == "closed" then
    self.row, self.old = {}, 0
  elseif self.state == "half_open" or self.probes > 0 then
    self:close()
  end
end

-- Attempts that come back, by the ids of items.
function M:refunds()
  return self.back
end

-- Which outages of this settle spend no attempt.
function M:excuse()
  if not self.breaker then return "none" end
  if self.state ~= "closed" then return "all" end
  return #self.row > 1 and "last" or "none"
end

function M:extend(till)
  if self.state == "half_open" then self.till = max(self.till, till) end
end


-- All of it.

function M:allows(now)
  if self.held > now then return 0 end
  local n = huge
  if self.state ~= "closed" then
    if self.till <= now then
      n = self.breaker.probes
    else
      n = self.state == "open" and 0
        or max(self.breaker.probes - self.probes, 0)
    end
  end
  if not self.rate then return n end
  return min(n, floor(self:level(now) / (self.rate.per * 1000)))
end

function M:take(n, now, till)
  if n == 0 then return end
  if self.rate then
    self.tokens = self:level(now) - n * self.rate.per * 1000
    self.at = now
  end
  if self.state == "closed" then return end
  if self.till <= now then self.probes = 0 end
  self.state, self.till = "half_open", max(self.till, till)
  self.probes = self.probes + n
end

-- The flow as stats() must return it.
function M:told(now)
  return {
    breaker = self.state, opened = self.opened, outages = self.outages,
    in_row = #self.row,
    allowed = self.rate and floor(self:level(now) / (self.rate.per * 1000))
      or nil,
  }
end

return M
