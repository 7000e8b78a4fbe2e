-- SPDX-License-Identifier: MIT
--
-- History: finished items, done or cancelled, that a queue with `keep_done`
-- keeps for a while, in the order in which they came to their end. They can be
-- looked at, and copies of them pushed as new items; nothing here touches
-- unfinished items.

local codec = require "respool.support.codec"
local compat = require "respool.support.compat"
local fields = require "respool.support.fields"
local options = require "respool.support.options"
local outcome = require "respool.support.outcome"
local page = require "respool.support.pages"
local progress_of = require "respool.replay.history_progress"
local push = require "respool.produce.push"

local huge, min = math.huge, math.min

local M = {}

---@class respool.finished_item
---@field id integer
---@field queue string
---@field state "done"|"cancelled"
---@field done_at number when it was done or cancelled
---@field payload any nil when it cannot be decoded
---@field bytes string the payload as stored
---@field headers any
---@field header_bytes string? the headers as stored
---@field codec string? of the payload; nil: CBOR
---@field original any
---@field original_codec string? nil: CBOR
---@field origin respool.origin where and when it was first pushed
---@field key string?
---@field partition string?
---@field version integer of the payload
---@field priority integer
---@field pushed_at number
---@field attempts integer
---@field deliveries integer
---@field crashes integer
---@field replays integer

---@class respool.history
---@field queue respool.queue
local History = { __name = "respool.history" }
History.__index = History

---@param queue respool.queue
---@return respool.history
function M.new(queue)
  return setmetatable({ queue = queue }, History)
end


-- Looking.

local FinishedItem = fields.record("a finished item", [[
  id queue state done_at payload bytes codec headers header_bytes original
  original_codec key version priority pushed_at expires_at origin attempts
  partition
  deliveries crashes replays error memo
]], function(item)
  return ("respool finished item %d of %s"):format(item.id, item.queue)
end)

local STATES = { [4] = "done", [5] = "cancelled" } -- as in respool.h

local function present(queue, item)
  item.queue, item.done_at = queue.name, item.visible_at
  item.visible_at, item.state = nil, STATES[item.state]
  return setmetatable(codec.present(queue.codec, item), FinishedItem)
end

-- A page of items done from `o.since` on and before `o.before`, behind
-- `o.after`.
local function read(queue, o, limit)
  local from, id = o.since or 0, 0
  if o.after then from, id = o.after.done_at, o.after.id + 1 end
  local items, message, code = queue.handle:history(from, id, limit)
  if not items then return nil, message, code end
  for i, item in ipairs(items) do
    if o.before and item.visible_at >= o.before then
      for k = #items, i, -1 do items[k] = nil end
      break
    end
    present(queue, item)
  end
  return items
end

-- The number of items that are kept.
---@return integer?, string?, string?
---@nodiscard
function History:count()
  local stats, message, code = self.queue.handle:stat()
  if not stats then return nil, message, code end
  return stats.kept
end

local function finished_item(value)
  if type(value) == "table" and type(value.done_at) == "number"
     and type(value.id) == "number" then
    return value
  end
  return nil, "an item of the history"
end

local LIST = {
  of = "history:list", since = options.time, before = options.time,
  limit = options.whole(1, 2^31), after = finished_item,
}

---@class respool.history_list_options
---@field since number? a time: items done then and later
---@field before number? a time: items done earlier
---@field limit integer? 100
---@field after respool.finished_item? only those behind it

-- Up to `limit` items that were done from the time `since` on and before the
-- time `before`; fewer when they have more than about 4 MiB, but one at least.
---@param given respool.history_list_options?
---@return respool.finished_item[]?, string?, string?
---@nodiscard
function History:list(given)
  local o = options.read(LIST, given, 1)
  return read(self.queue, o, o.limit or 100)
end

local EACH = {
  of = "history:each", since = options.time, before = options.time,
}
local PAGE = 100

-- Iterates over the items done from the time `since` on and before the time
-- `before`. A storage error is raised.
---@param given { since: number?, before: number? }?
---@return fun(): respool.finished_item?
function History:each(given)
  local o = options.read(EACH, given, 1)
  return page.each(function(last)
    o.after = last[#last] or o.after
    return read(self.queue, o, PAGE)
  end)
end


-- Replay.

---@class respool.history_counts
---@field seen integer
---@field pushed integer
---@field skipped integer by `where`
---@field failed integer `where` or `transform` failed
---@field errors string[] the first few of the failures
---@field state "stopped"|"finished"|"cancelled"|nil of a replay with a name

---@class respool.history_replay_options
---@field name string? to be resumed by, as dead:replay's
---@field since number? as in list()
---@field before number? as in list()
---@field where (fun(item: respool.finished_item): any, any)? which items; all
--- that were done
---@field transform (fun(payload: any, item: respool.finished_item): any, any)?
--- the payload to push
---@field to respool.queue? the queue to push to; their own
---@field limit integer? items to push at most

local REPLAY = {
  of = "history:replay", name = options.name,
  since = options.time, before = options.time,
  where = options.callable, transform = options.callable,
  to = options.queue, limit = options.whole(1, huge),
}

local ERRORS = 10

-- The bytes to push, their version and the name of their codec: as they are
-- stored, if they may be.
local function body(run, item)
  local target, payload = run.target, item.payload
  if run.no_partitions and item.partition then error(run.no_partitions, 0) end
  if run.o.transform then
    payload = outcome.transformed(run.o.transform, payload, item)
  elseif target.codec.name == run.queue.codec.name then
    if target.validate then push.validate(target.validate, payload) end
    return item.bytes, item.version, item.codec
  end
  push.check(target, payload)
  return codec.encode(target.codec, payload), target.version,
    codec.mark(target.codec)
end

local function is_wanted(run, item)
  if not run.o.where then return item.state == "done" end
  local wanted, err = run.o.where(item)
  if wanted == nil and err ~= nil then error(err, 0) end
  return wanted
end

local function fail(planned, item, err)
  planned.failed = planned.failed + 1
  table.insert(planned.errors, ("item %d: %s"):format(
    item.id, outcome.describe(err).text))
end

-- Looks at one item: skipped, failed, or to be pushed.
local function plan_item(run, planned, item)
  planned.seen = planned.seen + 1
  local ok, wanted = compat.pcall(is_wanted, run, item)
  if not ok then return fail(planned, item, wanted) end
  if not wanted then
    planned.skipped = planned.skipped + 1
    return
  end
  local made, bytes, version, mark = compat.pcall(body, run, item)
  if not made then return fail(planned, item, bytes) end
  table.insert(planned.copies, {
    item = item, bytes = bytes, version = version, codec = mark,
  })
end

-- The plan for a page, at most so many pushes.
local function plan(run, items)
  local planned = {
    seen = 0, skipped = 0, failed = 0, errors = {}, copies = {},
  }
  for _, item in ipairs(items) do
    if #planned.copies >= run.left then break end
    plan_item(run, planned, item)
    planned.last = item
  end
  return planned
end

local function add_copy(run, tx, c)
  return tx:push(run.target.handle, { c.bytes }, c.codec, {
    headers = c.item.header_bytes, priority = c.item.priority,
    version = c.version, partition = c.item.partition,
  })
end

local function add_copies(run, tx, copies)
  for _, c in ipairs(copies) do
    local ok, message, code = add_copy(run, tx, c)
    if not ok then return nil, message, code end
  end
  return true
end

-- Pushes the copies of a page in one commit, and how far it brings the replay.
local function commit(run, planned)
  local p = run.progress
  local tx, message, code = run.queue.store.handle:begin()
  if not tx then return nil, message, code end
  local ok, next_one
  ok, message, code = add_copies(run, tx, planned.copies)
  if ok then next_one, message, code = progress_of.advance(p, tx, planned) end
  ok = next_one
  if ok and tx:steps() > 0 then ok, message, code = tx:commit() end
  tx:close()
  if not ok then return nil, message, code end
  p.stored = next_one
  return true
end

local function count(run, planned)
  local counts = run.counts
  counts.seen = counts.seen + planned.seen
  counts.pushed = counts.pushed + #planned.copies
  counts.skipped = counts.skipped + planned.skipped
  counts.failed = counts.failed + planned.failed
  for _, line in ipairs(planned.errors) do
    if #counts.errors < ERRORS then table.insert(counts.errors, line) end
  end
  run.left = run.left - #planned.copies
end

local function new_run(queue, o)
  return {
    queue = queue, o = o, target = o.to or queue, left = o.limit or huge,
    size = PAGE,
    counts = { seen = 0, pushed = 0, skipped = 0, failed = 0, errors = {} },
  }
end

-- A page for which the target has no room is tried again as smaller ones, until
-- what fits is pushed.
local function shrink(run, planned, code)
  if code ~= "FULL" or planned.seen <= 1 then return false end
  run.size = math.floor(planned.seen / 2)
  return true
end

-- One page: false at the end; nil, message, code after an error.
local function step(run)
  local after, before = progress_of.place(run.progress)
  local items, message, code = read(run.queue, {
    since = run.o.since, after = after, before = min(run.o.before or huge,
                                                     before),
  }, run.size)
  if not items then return nil, message, code end
  if #items == 0 then
    run.finished = true
    return false
  end
  local planned = plan(run, items)
  local ok
  ok, message, code = commit(run, planned)
  if not ok and shrink(run, planned, code) then return true end
  if not ok and code == "LOCKED" and run.o.name then
    ok, message, code = progress_of.is_cancelled(run.progress)
    return ok and false, message, code
  end
  if not ok then return nil, message, code end
  count(run, planned)
  return run.left > 0
end

-- Pushes copies of items as new items, to their queue or another, page by page,
-- each page in one commit; the finished items stay. A copy has the headers, the
-- priority and the partition of its item, not its key. It ends where the
-- history ended when it began. The counts before an error are a fourth value.
-- With a name the progress is stored with each page: a replay of that name that
-- was stopped or killed goes on from there, one that has finished goes on with
-- the items done since, and LOCKED means that another process runs it. Without
-- a name no progress is stored.
---@param given respool.history_replay_options?
---@return respool.history_counts?, string?, string?, respool.history_counts?
---@nodiscard
function History:replay(given)
  local run = new_run(self.queue, options.read(REPLAY, given, 1))
  local message, code, more
  run.no_partitions, message, code = push.no_partitions(run.target)
  if run.no_partitions == nil then return nil, message, code, run.counts end
  run.progress, message, code = progress_of.begin(self.queue, run.o)
  if not run.progress then return nil, message, code, run.counts end
  local function conclude()
    progress_of.conclude(run.progress, run.finished == true)
  end
  compat.guard(function()
    repeat more, message, code = step(run) until not more
  end, nil, conclude)
  conclude()
  run.counts.state = progress_of.state(run.progress)
  if more == nil then return nil, message, code, run.counts end
  return run.counts
end

options.guard_methods(History, "history")

function History:__tostring()
  return ("respool history of %s"):format(self.queue.name)
end

return M
