-- SPDX-License-Identifier: MIT
--
-- Pages of a replay: the outcome of each dead letter that was listed, each
-- skipped, failed or to be moved. The counts of a page are added to those of
-- its replay when it is committed.

local codec = require "respool.support.codec"
local compat = require "respool.support.compat"
local outcome = require "respool.support.outcome"
local push = require "respool.produce.push"
local timing = require "respool.support.timing"

local M = {}

---@class respool.replay_page
---@field cursor integer number of the last dead letter
---@field seen integer
---@field skipped integer
---@field failed integer
---@field errors string[]
---@field moves table[]|integer[] as the core takes them
---@field dead_letters respool.dead_letter[] to be moved; none where only
--- numbers are known
---@field by_group table<string, integer>? of those
---@field moved integer? how many there were, once committed

local function new_page(cursor)
  return {
    cursor = cursor, seen = 0, skipped = 0, failed = 0, errors = {},
    moves = {}, dead_letters = {},
  }
end

-- Counts a dead letter as failed.
---@param page respool.replay_page
---@param dead_letter respool.dead_letter
---@param err any
function M.fail(page, dead_letter, err)
  page.failed = page.failed + 1
  table.insert(page.errors, ("dead letter %d: %s"):format(
    dead_letter.number, outcome.describe(err).text))
end

-- Calls the function of a user's that chooses; raises what it fails with.
local function is_wanted(o, dead_letter)
  if o.max_replays and dead_letter.replays >= o.max_replays then
    return false
  elseif not o.where then
    return true
  end
  local wanted, err = o.where(dead_letter)
  if wanted == nil and err ~= nil then error(err, 0) end
  return wanted
end

-- A dry run says what a move would do.
local function check_target(run, dead_letter)
  if run.no_partitions and dead_letter.partition then
    error(run.no_partitions, 0)
  end
  if not run.queues or run.o.to or run.queues[dead_letter.queue] then return end
  error(("there is no queue '%s'"):format(dead_letter.queue), 0)
end

local function check_size(run, bytes)
  local most = run.store.max_item_bytes
  if #bytes > most then
    error(("%d bytes are more than an item may have, %d"):format(
      #bytes, most), 0)
  end
  return bytes
end

-- The name that is stored with new bytes. Where both codecs are "raw" these
-- stand for what the stored ones did.
local function new_mark(run, dead_letter)
  if run.codec == codec.raw and run.dead.codec == codec.raw then
    return dead_letter.codec
  end
  return codec.mark(run.codec)
end

-- The payload's new bytes and the name of their codec, or nil when they stay
-- as they are.
local function new_bytes(run, dead_letter)
  local o, payload = run.o, dead_letter.payload
  check_target(run, dead_letter)
  if o.transform then
    payload = outcome.transformed(o.transform, payload, dead_letter)
  end
  if o.to and o.to.validate then push.validate(o.to.validate, payload) end
  if not o.transform and run.codec.name == run.dead.codec.name then
    return nil
  end
  if payload == nil then error("its payload cannot be decoded", 0) end
  return check_size(run, codec.encode(run.codec, payload)),
    new_mark(run, dead_letter)
end

-- Looks at one dead letter: skipped, failed, or to be moved.
local function plan_dead_letter(run, page, dead_letter)
  page.cursor, page.seen = dead_letter.number, page.seen + 1
  local ok, wanted = compat.pcall(is_wanted, run.o, dead_letter)
  if ok and not wanted then
    page.skipped = page.skipped + 1
    return
  end
  if dead_letter.damaged then return M.fail(page, dead_letter,
    "it is damaged") end
  if not ok then return M.fail(page, dead_letter, wanted) end
  local made, bytes, mark = compat.pcall(new_bytes, run, dead_letter)
  if not made then return M.fail(page, dead_letter, bytes) end
  table.insert(page.dead_letters, dead_letter)
  table.insert(page.moves, {
    dead_letter.number, bytes, mark, bytes and dead_letter.header_bytes,
    run.o.version or dead_letter.version,
  })
end

-- A page of dead letters that go back as they are, by their numbers. Should one
-- of them fail, the page is read again dead letter by dead letter.
local function plan_numbers(numbers)
  local page = new_page(numbers[#numbers])
  page.seen, page.moves, page.by_group = #numbers, numbers, numbers.by_group
  return page
end

-- The outcome of each dead letter that was listed; of those that are moved at
-- once, as many as are left of the limit.
---@param run table of replay.begin()
---@param dead_letters respool.dead_letter[]|integer[] numbers have a field
--- `by_group`
---@return respool.replay_page
function M.plan(run, dead_letters)
  if dead_letters.by_group then return plan_numbers(dead_letters) end
  local page = new_page(run.progress.cursor)
  for _, dead_letter in ipairs(dead_letters) do
    if #page.moves >= run.left then break end
    plan_dead_letter(run, page, dead_letter)
    timing.breathe()
  end
  return page
end

return M
