-- SPDX-License-Identifier: MIT
--
-- Replays in the background: rounds at an interval, a page at a time, run by
-- whoever works on a queue of the store or maintains it. There is no thread:
-- where nobody works, nothing is replayed. Each process that registers a
-- replay runs it; a dead letter is moved once all the same.

local compat = require "respool.support.compat"
local hooks = require "respool.observe.hooks"
local options = require "respool.support.options"
local outcome = require "respool.support.outcome"
local progress_of = require "respool.replay.progress"
local replay = require "respool.replay.replay"
local stats_of = require "respool.observe.stats"

local huge, max, min = math.huge, math.max, math.min

local M = {}

---@class respool.background_options : respool.replay_options
---@field interval number seconds from the end of a round to the next
---@field while_below number? pauses while the target is fuller than that
--- share of its max_items or max_queue_bytes

local FORM = setmetatable({
  of = "dead:replay_every",
  interval = options.positive_seconds,
  while_below = options.share,
}, { __index = replay.form })

---@class respool.background
---@field dead respool.dead
---@field o table
---@field target respool.queue?
---@field next_at number when the next round begins
---@field run table? the round that is under way
local Background = { __name = "respool.background" }
Background.__index = Background

local PAUSE = 1 -- seconds between looks at a target that is too full

local function check(dead, o)
  replay.check(o)
  options.need(FORM, o, "interval")
  if o.while_below and not (o.to or dead.queue) then
    compat.misuse("dead:replay_every: 'while_below' needs a queue, 'to'")
  end
end

-- Registers a replay with the store of the DLQ.
---@param dead respool.dead
---@param read function as in replay.begin()
---@param given respool.background_options
---@return respool.background
function M.register(dead, read, given)
  local o = options.read(FORM, given, 1)
  check(dead, o)
  local b = setmetatable({
    dead = dead, read = read, o = o, target = o.to or dead.queue,
    next_at = dead.store:now(),
  }, Background)
  dead.store.background[b] = true
  dead.store.ticker = M -- work calls its tick()
  return b
end

-- Ends it; a round that is under way can be resumed if it has a name.
---@return true?, string?, string?
function Background:stop()
  local run = self.run
  self.run = nil
  self.dead.store.background[self] = nil
  if not run or self.dead.store.handle:closed() then return true end
  local ok, message, code = replay.stop(run)
  if ok == nil then return nil, message, code end
  return true
end


-- Rounds.

-- Ends the round. A round that saw nothing is not reported.
local function conclude(b, now, message, code)
  local run = b.run
  b.run, b.next_at = nil, now + b.o.interval
  if message then hooks.report(b.dead.store, "replay", message, code) end
  if not run then return end
  if message or run.progress.seen > 0 then
    replay.conclude(run, message, code)
  else
    run.leave()
  end
end

local function may_begin(b)
  return not (b.o.name and progress_of.is_cancelled(b.dead.store, b.o.name))
end

-- Begins a round when it is time and there is a dead letter.
local function begin(b, now)
  if now < b.next_at then return end
  local n, message, code = b.dead:count()
  if n and n > 0 and may_begin(b) then
    b.run, message, code = replay.begin(b.dead, b.read, b.o)
  end
  if b.run then return replay.begin_late(b.run) end
  if code == "LOCKED" then message = nil end -- another process runs it
  conclude(b, now, message, code)
end

-- When there is something to do for it again.
local function due(b)
  if not b.run then return b.next_at end
  return max(replay.due(b.run), b.paused_until or 0)
end

local function step(b, now)
  local below, message, code = stats_of.is_below(b.target, b.o.while_below)
  if below == false then
    b.paused_until = now + PAUSE
    return
  end
  local more
  if below then
    replay.forget_delay(b.run)
    more, message, code = replay.step(b.run)
  end
  if code == "FULL" and b.run.progress.moved > 0 then -- it will have room again
    b.paused_until = now + PAUSE
  elseif not more then
    conclude(b, now, message, code)
  end
end

local function turn(b, now)
  if due(b) > now then return end
  if not b.run then begin(b, now) end
  if b.run then step(b, now) end
end

-- Hooks that are called may stop replays and register others.
local function turn_all(store)
  local all = {}
  for b in pairs(store.background) do all[#all + 1] = b end
  for _, b in ipairs(all) do
    if store.closing or store.handle:closed() then return end
    local now = store.handle:now()
    local ok, problem = compat.pcall(turn, b, now)
    if not ok then
      if b.run then b.run.leave() end
      b.run = nil
      conclude(b, now, outcome.describe(problem).text)
    end
  end
end

-- One page of each replay that is due. An error is reported and ends the round,
-- not the work or maintenance around it.
---@param store respool.store
function M.tick(store)
  if next(store.background) == nil or store.ticking then return end
  local function stop()
    store.ticking = nil
  end
  store.ticking = true
  compat.guard(turn_all, store, stop)
  stop()
end

-- Seconds until tick() has something to do; math.huge when it never has.
---@param store respool.store
---@return number
function M.wait(store)
  local at = huge
  if store.ticking then return at end
  for b in pairs(store.background) do at = min(at, due(b)) end
  return at == huge and huge or max(at - store.handle:now(), 0)
end

return M
