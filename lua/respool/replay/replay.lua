-- SPDX-License-Identifier: MIT
--
-- Replay: dead letters go back to a queue page by page, each page in one commit
-- that also stores how far it has come, if it has a name. Killed at any point,
-- a replay of the same name goes on from there, each dead letter once.
--
-- A named replay that was stopped or killed goes on with the dead letters that
-- were there when it began. A replay that has finished starts a new round, with
-- new counts, over the dead letters that came since. Its stored form and its
-- runner: see progress.lua.

local compat = require "respool.support.compat"
local core = require "respool.core"
local options = require "respool.support.options"
local page_of = require "respool.replay.replay_page"
local progress_of = require "respool.replay.progress"
local push = require "respool.produce.push"
local runner_of = require "respool.support.runner"
local pages = require "respool.support.pages"
local timing = require "respool.support.timing"

local huge, min, max = math.huge, math.min, math.max

local M = {}

-- Whether a dead letter is moved: false or nothing skips it; raising, or nil
-- and an error, counts it as failed.
---@alias respool.where fun(dead_letter: respool.dead_letter): any, any

-- The payload to push for a dead letter; raising, nil and an error, or false
-- counts it as failed.
---@alias respool.transform
---| fun(payload: any, dead_letter: respool.dead_letter): any, any

---@class respool.replay_options
---@field name string? to be resumed by
---@field where respool.where? which dead letters; all
---@field transform respool.transform? mends payloads
---@field version integer? of what transform returns; the dead letter's own
---@field to respool.queue? each dead letter's own queue when not given
---@field group string|integer? only dead letters of this group
---@field rate number? dead letters a second at most, at an even pace
---@field limit integer? dead letters moved by this call at most
---@field order "oldest"|"newest"? newest not with a name
---@field dry_run boolean? only count, from none; where and transform are called
---@field keep_attempts boolean? false: they begin again at 0
---@field on_progress fun(counts: respool.replay_counts): any? false stops
---@field max_replays integer? dead letters that came back so often are skipped
---@field on_finish fun(counts: respool.replay_counts, ...)? called at the end;
--- with message and code when an error was the end

---@class respool.replay_counts
---@field seen integer
---@field moved integer
---@field skipped integer by where or max_replays
---@field failed integer where, transform or the move failed, or it is damaged
---@field gone integer taken by somebody else before they could be moved
---@field by_group table<string, integer> moved ones; one that was taken by
--- somebody else in the same moment may be among them
---@field errors string[] the first few of the failures
---@field state "running"|"stopped"|"finished"|"cancelled"
---@field dry_run boolean?

M.form = {
  of = "dead:replay",
  name = options.name,
  group = options.group,
  where = options.callable,
  transform = options.callable,
  version = options.whole(0, 2^53),
  to = options.queue,
  rate = options.rate,
  limit = options.whole(1, huge),
  order = options.choice { oldest = "oldest", newest = "newest" },
  dry_run = options.boolean,
  keep_attempts = options.boolean,
  on_progress = options.callable,
  max_replays = options.whole(0, huge),
  on_finish = options.callable,
}

local ERRORS = 10

-- A page, which is one commit, grows up to PAGE_MOST while that takes less
-- than QUICK seconds: its flush is shared by more dead letters. Where a hook
-- reads the dead letters, payloads and all, it grows up to PAGE_READ. In the
-- background it stays at PAGE.
local PAGE, PAGE_READ, PAGE_MOST, QUICK = 100, 1000, 5000, 0.05

local PAGES = 10 -- a second, at most, of a replay with a rate


-- Committing a page.

local function copy(t)
  local new = {}
  for k, v in pairs(t) do new[k] = v end
  return new
end

-- Moves the page's dead letters and stores the progress, in one commit. How
-- many there were.
local function store_page(run, page)
  local o, n = run.o, #page.moves
  if o.dry_run then return n end
  if n == 0 then
    local ok, message, code = progress_of.save(run)
    return ok and n, message, code
  end
  local progress = progress_of.is_stored(run) and run.progress or nil
  local moved, message, code = run.store.handle:dead_move(
    run.dead.dlq, page.moves, o.to and o.to.handle, o.keep_attempts, progress)
  if not moved then return nil, message, code end
  if progress then progress.revision = progress.revision + 1 end
  return moved
end

-- The progress advances only when the page is stored, and counts, as the
-- stored one does, the dead letters that were still there.
local function commit(run, page)
  local before = run.progress
  run.progress = copy(before)
  run.progress.updated_at = run.store.handle:now()
  progress_of.advance(run.progress, page, #page.moves)
  local moved, message, code = store_page(run, page)
  if not moved then
    run.progress = before
    return nil, message, code
  end
  run.progress.moved, page.moved = before.moved + moved, moved
  return true
end


-- Counts, as the user sees them.

local function new_counts(run)
  return { by_group = {}, errors = {}, dry_run = run.o.dry_run or nil }
end

local function refresh(run)
  local counts, progress = run.counts, run.progress
  counts.seen, counts.moved = progress.seen, progress.moved
  counts.skipped, counts.failed = progress.skipped, progress.failed
  counts.gone = progress.seen - progress.moved - progress.skipped
    - progress.failed
  counts.state = progress_of.STATES[progress.state]
  return counts
end

-- Counts by group where dead letters were gone: known if all are of one group.
local function trim_groups(by_group, page)
  local group = next(by_group)
  if page.moved < #page.moves and group and not next(by_group, group) then
    by_group[group] = page.moved
  end
  return by_group
end

local function groups_of(page)
  local by_group = copy(page.by_group or {})
  for _, dead_letter in ipairs(page.dead_letters) do
    local group = dead_letter.group or ""
    by_group[group] = (by_group[group] or 0) + 1
  end
  return trim_groups(by_group, page)
end

local function count_groups(counts, page)
  for group, n in pairs(groups_of(page)) do
    counts.by_group[group] = (counts.by_group[group] or 0) + n
  end
end

local function count(run, page)
  local counts = run.counts
  count_groups(counts, page)
  for _, line in ipairs(page.errors) do
    if #counts.errors < ERRORS then table.insert(counts.errors, line) end
  end
  run.moved = run.moved + page.moved
  run.left = run.left - page.moved
  refresh(run)
end


-- The loop.

-- Errors of one dead letter, not of the store.
local OF_DEAD_LETTER = {
  NOT_FOUND = true, CORRUPT = true, TOO_LARGE = true, INVALID = true,
}

-- The size of the next page, by how long this one took.
local function grow(run)
  if run.room then run.room = run.room < run.most and run.room * 2 or nil end
  if run.o.rate or run.single > 0 then return end
  local quick = core.mono() - run.planned < QUICK * 1e6
  run.size = quick and min(run.size * 2, run.most)
    or max(math.floor(run.size / 2), PAGE)
end

-- A page for which the target has no room is tried again as smaller ones, until
-- what fits is moved.
local function shrink(run, page, code)
  if code ~= "FULL" or page.seen <= 1 then return false end
  run.room = math.floor(page.seen / 2)
  return true
end

-- Commits a page. If a dead letter makes it fail, the page is read again dead
-- letter by dead letter, until that one is found and counted.
local function carry_out(run, page)
  local ok, message, code = commit(run, page)
  if not ok and shrink(run, page, code) then return true end
  if not ok and OF_DEAD_LETTER[code] then
    if page.seen > 1 or page.by_group then
      run.single = page.seen
      return true
    end
    page_of.fail(page, page.dead_letters[1], message)
    page.moves, page.dead_letters = {}, {}
    ok, message, code = commit(run, page)
  end
  if not ok then return nil, message, code end
  run.single = max(run.single - page.seen, 0)
  grow(run)
  count(run, page)
  return true
end

-- Whether dead letters are moved without a look at them. A dry run looks:
-- what is damaged would not move.
local function is_blind(run)
  local o = run.o
  return not (o.where or o.transform or o.max_replays or o.rate or o.dry_run
              or o.to and o.to.validate)
    and run.codec.name == run.dead.codec.name
end

local function next_numbers(run, o)
  o.limit = min(run.size, run.left, run.room or huge)
  local numbers, by_group, code =
    run.store.handle:dead_numbers(run.dead.dlq, o)
  if not numbers then return nil, by_group, code end
  numbers.by_group = by_group
  return numbers
end

-- Dead letters with their payloads, as many as are read quickly. An event loop
-- waits for each read, so each is of PAGE at most.
local function read_page(run, list, size)
  local all, bytes = {}, 0
  repeat
    list.limit, list.bytes = min(PAGE, size - #all), pages.BYTES - bytes
    local piece, message, code = run.read(run.dead, list)
    if not piece then return nil, message, code end
    for _, dead_letter in ipairs(piece) do
      all[#all + 1] = dead_letter
      bytes = bytes + #dead_letter.bytes
    end
    list.after = piece[1] and piece[#piece].number
  until #piece == 0 or #all >= size or bytes >= pages.BYTES
    or core.mono() - run.planned > QUICK * 1e6 / 2
  return all
end

local function next_dead_letters(run)
  local o, progress = run.o, run.progress
  local newest = o.order == "newest"
  local list = {
    group = o.group, after = progress.cursor,
    upto = not newest and progress.upto or nil,
    descending = newest,
  }
  run.planned = core.mono()
  if run.single == 0 and is_blind(run) then return next_numbers(run, list) end
  local size = o.rate and min(PAGE, max(1, math.floor(o.rate / PAGES)))
    or min(run.size, PAGE_READ)
  if run.single > 0 then size = 1 end
  return read_page(run, list, min(size, run.room or huge))
end

-- When the rate allows the next page.
---@return number
function M.due(run)
  return run.started + (run.o.rate and run.moved / run.o.rate or 0)
end

-- Seconds of delay that are made up for at most: what the rate allows in one
-- second, but for the first dead letter.
local function burst(run)
  return run.o.rate and max(1 - 1 / run.o.rate, 0) or 0
end

-- Where something else than the rate held the replay up, only a second of that
-- time is made up for.
function M.forget_delay(run)
  local late = run.store.handle:now() - M.due(run) - burst(run)
  run.started = run.started + max(late, 0)
end

-- In the background turns are rare: a second's worth is due at once.
function M.begin_late(run)
  run.started = run.started - burst(run)
end

local LOOK = 1e6 -- microseconds between looks whether it was cancelled

-- While a named replay waits: looks whether its record is still this run's,
-- and saves it now and then.
local function keep(run)
  local now, progress = core.mono(), run.progress
  if not progress_of.is_stored(run) or now < (run.next_look or 0) then
    return true
  end
  run.next_look = now + LOOK
  if run.store.handle:now() - progress.updated_at > runner_of.BEAT then
    return progress_of.save(run)
  end
  local stored, message, code = run.store.handle:replay_load(run.o.name)
  if not stored and code ~= "NOT_FOUND" then return nil, message, code end
  if stored and stored.revision == progress.revision then return true end
  return nil, ("named replay '%s' has changed"):format(run.o.name), "LOCKED"
end

-- Waits until the rate allows what has been moved so far. False when the
-- process is to end first.
local function meter(run)
  local handle = run.store.handle
  local due = M.due(run)
  local left = due - handle:now()
  while left > 0 do
    if timing.is_ending() then return false end
    local ok, message, code = keep(run)
    if ok then
      ok, message, code = handle:sleep(timing.slice(run.store, left))
    end
    if not ok then return nil, message, code end
    left = due - handle:now()
  end
  return true
end

-- Ends the replay in this state. False, as there is no more to do.
local function finish(run, state)
  local progress = run.progress
  progress.state = state
  if state == progress_of.FINISHED then
    progress.cursor = max(progress.cursor, progress.upto)
  end
  local ok, message, code = progress_of.save(run)
  if not ok then return nil, message, code end
  return false
end

local function is_stopped(run)
  if run.left <= 0 then return true end
  local hook = run.o.on_progress
  return hook and hook(run.counts) == false
end

local function step(run, wait)
  local dead_letters, message, code = next_dead_letters(run)
  if not dead_letters then return nil, message, code end
  if #dead_letters == 0 then return finish(run, progress_of.FINISHED) end
  local ok = true
  if wait then ok, message, code = wait(run) end
  if ok == false then return finish(run, progress_of.STOPPED) end
  if ok then ok, message,
    code = carry_out(run, page_of.plan(run, dead_letters)) end
  if not ok then return nil, message, code end
  if is_stopped(run) then return finish(run, progress_of.STOPPED) end
  return true
end

-- Moves one page, when the rate allows it: at once unless wait(run) sees to
-- that. Whether there is more to do; nil, message, code after an error.
---@return boolean?, string?, string?
function M.step(run, wait)
  local more, message, code = step(run, wait)
  if progress_of.is_refused(run, code) then return progress_of.give_way(run) end
  return more, message, code
end

-- Stops a run before its end; a named one can go on later. An interrupt may
-- have cut off a page that was committed all the same.
---@return false?, string?, string?
function M.stop(run)
  run.leave()
  local more, message, code = finish(run, progress_of.STOPPED)
  if progress_of.is_refused(run, code) and progress_of.catch_up(run) then
    more, message, code = finish(run, progress_of.STOPPED)
  end
  if progress_of.is_refused(run, code) then return false end
  return more, message, code
end

-- The counts of a run that has ended, passed to its hook.
---@return respool.replay_counts
function M.conclude(run, message, code)
  local counts = refresh(run)
  run.leave()
  if run.o.on_finish then run.o.on_finish(counts, message, code) end
  return counts
end

-- Raises when options exclude each other.
function M.check(o)
  if o.name and o.order == "newest" then
    compat.misuse("dead:replay: a named replay goes from the oldest dead "
      .. "letter on")
  end
  if o.version and not o.transform then
    compat.misuse("dead:replay: version is of what transform returns")
  end
end

-- What a dry run must know of them to say what a move would do.
local function look_at_targets(run)
  local names, message, code = run.store.handle:queues()
  if not names then return nil, message, code end
  run.queues = {}
  for _, name in ipairs(names) do run.queues[name] = true end
  if not run.o.to then return true end
  run.no_partitions, message, code = push.no_partitions(run.o.to)
  return run.no_partitions ~= nil, message, code
end

-- A run over the dead letters there are now. `read` lists pages of them.
---@param dead respool.dead
---@param read fun(dead: respool.dead, o: table): respool.dead_letter[]?, ...
---@param o table options as the form keeps them
---@return table?, string?, string?
function M.begin(dead, read, o)
  local run = {
    dead = dead, store = dead.store, read = read, o = o, single = 0,
    size = PAGE, most = PAGE,
    codec = o.to and o.to.codec or dead.codec, left = o.limit or huge,
    moved = 0, started = dead.store:now(), leave = function() end,
  }
  local ok, message, code
  run.progress, message, code = progress_of.begin(run)
  if not run.progress then return nil, message, code end
  if o.dry_run then
    ok, message, code = look_at_targets(run)
    if not ok then return nil, message, code end
  end
  if progress_of.is_stored(run) then
    run.progress.runner, run.leave = runner_of.enter(run)
  end
  ok, message, code = progress_of.save(run)
  if not ok then
    run.leave()
    return nil, message, code
  end
  run.counts = new_counts(run)
  refresh(run)
  return run
end

-- Moves dead letters of a DLQ back to a queue.
---@param dead respool.dead
---@param read fun(dead: respool.dead, o: table): respool.dead_letter[]?, ...
---@param given respool.replay_options?
---@return respool.replay_counts?, string?, string?, respool.replay_counts?
function M.run(dead, read, given)
  local o = options.read(M.form, given, 1)
  M.check(o)
  local run, message, code = M.begin(dead, read, o)
  if not run then return nil, message, code end
  local more
  run.most = PAGE_MOST
  compat.guard(function()
    repeat more, message, code = M.step(run, meter) until not more
  end, nil, function() compat.pcall(M.stop, run) end)
  local counts = M.conclude(run, message, code)
  if more == nil then return nil, message, code, counts end
  return counts
end

return M
