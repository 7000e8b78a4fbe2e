-- SPDX-License-Identifier: MIT
--
-- Progress of replays: how far one has come, which a replay that has a name
-- stores, and who runs it.
--
-- One runner at a time runs a named replay. Each page is refused when the
-- stored replay was changed since the page before: then it was cancelled or
-- forgotten, and the run ends, or another runner has taken it over from one
-- that seemed to be gone, and the run fails with LOCKED.

local compat = require "respool.support.compat"
local runner_of = require "respool.support.runner"

local M = {}

M.RUNNING, M.STOPPED, M.FINISHED, M.CANCELLED = 0, 1, 2, 3
M.STATES = { [0] = "running", "stopped", "finished", "cancelled" }

---@class respool.named_replay
---@field name string
---@field dlq string of a history: the queue
---@field history boolean whether it is of finished items
---@field to string "": each dead letter's own queue, or the history's
---@field state "running"|"interrupted"|"stopped"|"finished"|"cancelled"
--- interrupted: its runner is gone
---@field pid integer? of its runner, on this machine
---@field cursor integer dead letters up to this number are dealt with; of a
--- history the last item's id, done at `upto` (in ms)
---@field upto integer the last dead letter when it began
---@field seen integer
---@field moved integer
---@field skipped integer
---@field failed integer
---@field started_at number
---@field updated_at number

-- Whether somebody has cancelled a named replay.
---@return boolean
function M.is_cancelled(store, name)
  local progress = store.handle:replay_load(name)
  return progress ~= nil and progress.state == M.CANCELLED
end

-- A stored replay as the user sees it.
---@return respool.named_replay?, string?, string?
function M.stored(store, name)
  local progress, message, code = store.handle:replay_load(name)
  if not progress then return nil, message, code end
  if progress.state == M.RUNNING
     and runner_of.is_gone(progress, store.handle:now()) then
    progress.state = "interrupted"
  else
    progress.pid = progress.state == M.RUNNING
      and runner_of.pid(progress.runner) or nil
    progress.state = M.STATES[progress.state]
  end
  progress.runner, progress.revision = nil, nil
  return progress
end

-- Stops a named replay, in whatever process it runs. In the background it is
-- not begun again before it is run by hand or forgotten.
---@return true?, string?, string?
function M.cancel(store, name)
  return store.handle:replay_cancel(name)
end

local function last_number(dead)
  local dead_letters, message, code = dead.store.handle:dead_list(dead.dlq, {
    limit = 1, descending = true, no_body = true,
  })
  if not dead_letters then return nil, message, code end
  return dead_letters[1] and dead_letters[1].number or 0
end

local function new_progress(run, name, cursor)
  local upto, message, code = last_number(run.dead)
  if not upto then return nil, message, code end
  local now = run.store.handle:now()
  return {
    name = name, dlq = run.dead.dlq, to = run.o.to and run.o.to.name or "",
    state = M.RUNNING, cursor = cursor, upto = upto, seen = 0, moved = 0,
    skipped = 0, failed = 0, started_at = now, updated_at = now,
    revision = 0, runner = "",
  }
end

local function check_same(run, progress)
  local to = run.o.to and run.o.to.name or ""
  if progress.history then
    compat.misuse(("dead:replay: replay '%s' is of the history of queue '%s'")
      :format(progress.name, progress.dlq))
  elseif progress.dlq ~= run.dead.dlq or progress.to ~= to then
    compat.misuse(("dead:replay: replay '%s' moves DLQ '%s' to %s"):format(
      progress.name, progress.dlq,
      progress.to == "" and "each dead letter's queue"
        or ("queue '%s'"):format(progress.to)))
  end
end

-- Whether a run's progress is stored.
---@return boolean
function M.is_stored(run)
  return run.o.name ~= nil and not run.o.dry_run
end

-- The next round of a replay that has finished.
local function next_round(run, finished)
  local progress, message, code =
    new_progress(run, finished.name, finished.cursor)
  if not progress then return nil, message, code end
  progress.revision = finished.revision
  return progress
end

-- The progress to begin with: new, a new round of a finished replay, or that
-- of one to be gone on with.
---@return table?, string?, string?
function M.begin(run)
  local name, handle = run.o.name, run.store.handle
  if not name then return new_progress(run, "", 0) end
  local progress, message, code = handle:replay_load(name)
  if not progress and code == "NOT_FOUND" then
    return new_progress(run, name, 0)
  end
  if not progress then return nil, message, code end
  check_same(run, progress)
  if progress.state == M.FINISHED then return next_round(run, progress) end
  if M.is_stored(run) and progress.state == M.RUNNING
     and not runner_of.is_gone(progress, handle:now()) then
    return runner_of.locked(progress)
  end
  progress.state = M.RUNNING
  if run.o.dry_run then
    progress.seen, progress.moved = 0, 0
    progress.skipped, progress.failed = 0, 0
  end
  return progress
end

-- Stores the progress of a run that has a name.
---@return true?, string?, string?
function M.save(run)
  local progress = run.progress
  if not M.is_stored(run) then return true end
  progress.updated_at = run.store.handle:now()
  local ok, message, code = run.store.handle:replay_save(progress)
  if not ok then return nil, message, code end
  progress.revision = progress.revision + 1
  return true
end

-- After a save was refused, as the stored replay has changed: false when it
-- was cancelled or forgotten; nil, message, code when another runs it.
---@return false?, string?, string?
function M.give_way(run)
  local name = run.o.name
  local stored, message, code = run.store.handle:replay_load(name)
  if not stored and code ~= "NOT_FOUND" then return nil, message, code end
  if stored and stored.runner ~= run.progress.runner then
    return runner_of.locked(stored)
  end
  run.progress.state = M.CANCELLED
  return false
end

-- Goes on from the stored progress, if this run has stored it; whether it has.
---@return boolean
function M.catch_up(run)
  local stored = run.store.handle:replay_load(run.o.name)
  local own = stored ~= nil and stored.state == M.RUNNING
    and stored.runner == run.progress.runner
  if own then run.progress = stored end
  return own
end

-- Whether a save failed because the stored replay has changed.
---@return boolean
function M.is_refused(run, code)
  return code == "LOCKED" and M.is_stored(run)
end

-- Moves the progress to where a page ends.
function M.advance(progress, page, moved)
  progress.cursor = page.cursor
  progress.seen = progress.seen + page.seen
  progress.moved = progress.moved + moved
  progress.skipped = progress.skipped + page.skipped
  progress.failed = progress.failed + page.failed
end

return M
