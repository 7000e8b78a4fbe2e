-- SPDX-License-Identifier: MIT
--
-- How far the replay of a queue's history has come. It is stored when the
-- replay has a name, with each page, in the same commit: so a replay that was
-- stopped or killed goes on where it was, each item once. A replay that has
-- finished begins a new round, over the items that were done since. One runner
-- at a time runs it; see respool/replay/replay.lua.

local compat = require "respool.support.compat"
local runner_of = require "respool.support.runner"
local timing = require "respool.support.timing"

local M = {}

local RUNNING, STOPPED, FINISHED, CANCELLED = 0, 1, 2, 3

---@class respool.history_progress
---@field handle userdata of the store
---@field stored table as the store keeps it; without a name only here
---@field leave function

-- Items that are done after a round began belong to the next. The millisecond
-- in which it begins is over before the first page is read, unless the clock is
-- moved by hand.
local function moment(store)
  local now = store:now()
  while not store.manual and store:now() <= now do timing.pause(0.001) end
  return now
end

local function new(queue, o)
  local now = moment(queue.store)
  return {
    name = o.name or "", dlq = queue.name, to = o.to and o.to.name or "",
    history = true, state = RUNNING, cursor = 0, upto = 0, seen = 0, moved = 0,
    skipped = 0, failed = 0, started_at = now, updated_at = now, revision = 0,
    runner = "",
  }
end

local function describe(stored)
  if not stored.history then
    return ("DLQ '%s'"):format(stored.dlq)
  end
  return ("the history of queue '%s'"):format(stored.dlq)
end

local function check_same(stored, fresh)
  if stored.history and stored.dlq == fresh.dlq and stored.to == fresh.to then
    return
  end
  compat.misuse(("history:replay: replay '%s' is of %s%s"):format(stored.name,
    describe(stored), stored.to ~= "" and (", to queue '%s'"):format(stored.to)
      or ""))
end

-- The progress to go on from: the stored one, or a new round after it.
local function go_on(stored, fresh)
  if stored.state ~= FINISHED then
    stored.state = RUNNING
    return stored
  end
  fresh.cursor, fresh.upto = stored.cursor, stored.upto
  fresh.revision = stored.revision
  return fresh
end

local function save(p)
  local ok, message, code = p.handle:replay_save(p.stored)
  if not ok then return nil, message, code end
  p.stored.revision = p.stored.revision + 1
  return true
end

local function is_named(p)
  return p.stored.name ~= ""
end

-- The progress of a replay that begins; LOCKED while another runs it.
---@param queue respool.queue whose history it is
---@param o respool.history_replay_options
---@return respool.history_progress?, string?, string?
function M.begin(queue, o)
  local p = {
    handle = queue.store.handle, stored = new(queue, o), leave = function() end,
  }
  if not o.name then return p end
  local stored, message, code = p.handle:replay_load(o.name)
  if not stored and code ~= "NOT_FOUND" then return nil, message, code end
  if stored then
    check_same(stored, p.stored)
    if stored.state == RUNNING
       and not runner_of.is_gone(stored, p.handle:now()) then
      return runner_of.locked(stored)
    end
    p.stored = go_on(stored, p.stored)
  end
  p.stored.runner, p.leave = runner_of.enter(p)
  local ok
  ok, message, code = save(p)
  if ok then return p end
  p.leave()
  return nil, message, code
end

-- Where to read: behind which item, and done before when.
---@param p respool.history_progress
---@return { done_at: number, id: integer }?, number
function M.place(p)
  local s = p.stored
  local after = s.upto > 0 and { done_at = s.upto / 1000, id = s.cursor } or nil
  return after, s.started_at + 0.001
end

-- Adds the progress behind a page to the transaction that pushes its items.
-- Returns the progress as it is once that has committed.
---@param p respool.history_progress
---@param tx userdata
---@param page table counts, and the last item
---@return table?, string?, string?
function M.advance(p, tx, page)
  local next_one = {}
  for name, value in pairs(p.stored) do next_one[name] = value end
  next_one.cursor = page.last.id
  next_one.upto = math.floor(page.last.done_at * 1000 + 0.5)
  next_one.seen = next_one.seen + page.seen
  next_one.moved = next_one.moved + #page.copies
  next_one.skipped = next_one.skipped + page.skipped
  next_one.failed = next_one.failed + page.failed
  next_one.updated_at = p.handle:now()
  if is_named(p) then
    local ok, message, code = tx:replay(next_one)
    if not ok then return nil, message, code end
    next_one.revision = next_one.revision + 1
  end
  return next_one
end

-- After a commit was refused as the stored progress has changed: true when it
-- was cancelled or forgotten; nil, message, code when another runs it.
---@param p respool.history_progress
---@return true?, string?, string?
function M.is_cancelled(p)
  local stored, message, code = p.handle:replay_load(p.stored.name)
  if not stored and code ~= "NOT_FOUND" then return nil, message, code end
  if stored and stored.runner ~= p.stored.runner then
    return runner_of.locked(stored)
  end
  p.stored.state = CANCELLED
  return true
end

-- Stores the state of a replay that ends. An interrupt may have cut off a page
-- that was committed all the same; a save that is still refused is another's.
local function save_end(p, state)
  p.stored.state = state
  local ok, _, code = save(p)
  if ok or code ~= "LOCKED" then return end
  local stored = p.handle:replay_load(p.stored.name)
  if not stored or stored.state ~= RUNNING
     or stored.runner ~= p.stored.runner then
    return
  end
  stored.state = state
  p.stored = stored
  save(p)
end

-- Stores that the replay has ended: finished, or stopped before.
---@param p respool.history_progress
---@param finished boolean
function M.conclude(p, finished)
  if is_named(p) and p.stored.state == RUNNING then
    save_end(p, finished and FINISHED or STOPPED)
  end
  p.leave()
end

local STATES = {
  [RUNNING] = "running", [STOPPED] = "stopped", [FINISHED] = "finished",
  [CANCELLED] = "cancelled",
}

---@param p respool.history_progress
---@return string?
function M.state(p)
  return is_named(p) and STATES[p.stored.state] or nil
end

return M
