-- SPDX-License-Identifier: MIT
--
-- Gates: how many requests may be under way to one URL, when many items are
-- handled at a time. A fast host is waited for. A slow host is
-- not: the item is to come again when there may be room, and its other URLs
-- get it meanwhile.
--
-- When that may be is reckoned as if those who were sent away stood in line
-- before the gate, each let in as soon as one of those inside has had the time
-- that a request takes.

local loop_of = require "respool.support.loop"

local now = loop_of.now

local M = {}

---@class respool.gate
---@field most integer requests at a time
---@field inside table<table, number> when each began
---@field n integer
---@field mean number seconds that a request takes, the last ones weighing most
---@field line number when the end of the line is let in
local Gate = {}
Gate.__index = Gate

local SLOW = 0.25             -- seconds: not waited for
local LOOK = 0.01             -- between looks whether there is room
local WEIGHT = 0.2            -- of the last request in the mean
local LEAST, MOST = 0.5, 300  -- seconds that an item is sent away for

---@param most integer
---@return respool.gate
function M.new(most)
  return setmetatable({
    most = most, inside = {}, n = 0, mean = 0, line = 0,
  }, Gate)
end

-- How long a request takes, as far as can be known now.
local function duration(gate)
  local first = now()
  for _, began in pairs(gate.inside) do first = math.min(first, began) end
  return math.max(gate.mean, now() - first)
end

local function place_in_line(gate)
  gate.line = math.max(gate.line, now()) + duration(gate) / gate.most
  return math.min(math.max(gate.line - now(), LEAST), MOST)
end

-- Lets a request in, perhaps after a moment: the token to leave with. Nil and
-- in how many seconds to come again when it is too full.
---@return table?, number?
function Gate:enter()
  local loop = loop_of.current()
  while loop and self.n >= self.most do
    if duration(self) >= SLOW then return nil, place_in_line(self) end
    loop:sleep(now() + LOOK)
  end
  local token = {}
  self.inside[token], self.n = now(), self.n + 1
  return token
end

---@param token table
function Gate:leave(token)
  local took = now() - self.inside[token]
  self.inside[token], self.n = nil, self.n - 1
  self.mean = self.mean + WEIGHT * (took - self.mean)
end

return M
