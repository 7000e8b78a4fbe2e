-- SPDX-License-Identifier: MIT
--
-- Buffered pushes. A queue opened with `buffer` gathers what is pushed in
-- memory and commits it in the background, by the first of its triggers. Its
-- push returns true at once and promises less: until the flush that takes
-- the item along, a crash of the process loses it, it has no id, and nobody
-- can take it. flush() is the barrier: what was pushed before is on disk when
-- it returns true. A flush that fails keeps its items and is tried again, also
-- when the queue's handle has been collected meanwhile: its store flushes what
-- was left, and close() counts what it could not. Items come to the queue in
-- the order of their pushes, merged ones in the place of the first. A push's
-- own delay and ttl count from the push, to within 10 ms; a ttl of the queue
-- counts from the flush, as the item is new to the queue then.

local core = require "respool.core"
local codec = require "respool.support.codec"
local compat = require "respool.support.compat"
local hooks = require "respool.observe.hooks"
local merge = require "respool.produce.merge"
local options = require "respool.support.options"
local push = require "respool.produce.push"
local refusals = require "respool.observe.refusals"
local tickets = require "respool.support.ticket"

local huge = math.huge

local M = {}

---@class respool.buffer_options
---@field items integer? flush at so many items; 500, math.huge: never
---@field bytes integer|string? at so many bytes of payload; 1 MiB
---@field pushes integer? at so many pushes, folded ones too; math.huge
---@field interval number? so many seconds after the first push; 0.2
---@field max_buffered_bytes integer|string? 64 MiB of memory: payloads with
--- what lies around them, a few bytes an item; up to 1 KiB for one with a key,
--- with other options than the push before, or that may be merged. The process
--- grows by twice as much at most. Then the queue's overflow decides: "reject"
--- says FULL, "wait" waits, the others flush here and now, or, where that would
--- have to wait and cannot, say FULL

local function interval(value)
  local seconds = options.seconds_or_huge(value)
  if seconds and seconds >= 0.001 then return seconds end
  return nil, [[seconds or a time such as "200ms", from 1 ms, or math.huge]]
end

local FORM = {
  of = "store:queue: buffer",
  items = options.whole(1, huge),
  bytes = options.size_or_huge,
  pushes = options.whole(1, huge),
  interval = interval,
  max_buffered_bytes = options.size,
}

-- The kind of a queue's option `buffer`.
---@param value any
---@return table?, string?
function M.kind(value)
  if type(value) ~= "table" then return nil, "a table of options" end
  return options.read(FORM, value, 2)
end

-- A trigger as the core takes it, where 0 is none. A count that is never
-- reached is none.
local function trigger(value, default)
  value = value or default
  return value <= 2^53 and value or 0
end

local function triggers(o)
  return {
    items = trigger(o.items, 500), bytes = trigger(o.bytes, 2^20),
    pushes = trigger(o.pushes, huge), interval = trigger(o.interval, 0.2),
    max_bytes = o.max_buffered_bytes,
  }
end

-- Raises what is wrong with the options of a queue, before it is made.
---@param o table as the form keeps them
function M.check(o)
  if o.merge and not o.buffer then
    compat.misuse("store:queue: option 'merge' needs a 'buffer'")
  elseif not o.buffer then
    return
  end
  local t = triggers(o.buffer)
  if t.items + t.bytes + t.pushes + t.interval == 0 then
    compat.misuse("store:queue: option 'buffer' has no trigger")
  end
end

-- A function that pushes a payload without options as Queue.push does;
-- `long_way` is Queue.push, for all else.
local function short_push(queue, long_way)
  return queue.buffer:pusher(
    queue.version, queue.codec.native or codec.mark(queue.codec), long_way,
    M.report)
end

-- Gives the queue its buffer, if the options ask for one.
---@param queue respool.queue
---@param o table as the form keeps them
---@return true?, string?, string?
function M.open(queue, o)
  if not o.buffer then return true end
  local handle, message, code = queue.handle:buffer(triggers(o.buffer))
  if not handle then return nil, message, code end
  queue.buffer, queue.merge, queue.store.buffered = handle, o.merge, true
  local shortens = queue.codec.native or queue.codec == codec.raw
  if shortens and not queue.validate and not o.merge
     and not queue.store.tracer then
    queue.push = short_push(queue, queue.push)
  end
  return true
end

-- Calls on_error for flushes that failed since it was called last.
---@param queue respool.queue
function M.report(queue)
  hooks.drain(queue.store)
end

---@class respool.buffer_stats
---@field items integer waiting now
---@field bytes integer of payload
---@field memory integer what they take of it; max_buffered_bytes bounds it
---@field pushed integer
---@field flushes table<string, integer> by items, bytes, pushes, interval,
--- manual, close
---@field failures integer flushes that failed
---@field error string? why, while the last one did
---@field code string?

-- The figures of a queue's buffer.
---@param queue respool.queue
---@return respool.buffer_stats
function M.stats(queue)
  return queue.buffer:stat()
end

-- Whether a push that finds the buffer full flushes it.
local function makes_room(queue)
  local config = queue.handle:config()
  return config and (config.overflow == push.DROP_OLDEST
                     or config.overflow == push.DEAD)
end

-- Puts something into the buffer; where that has no room, as the queue's
-- overflow says. A flush that would have to wait where nothing may is under
-- way already: the next push may find room.
local function put(queue, o, try)
  local ok, message, code = push.push_until_room(queue, o, try)
  if code == "FULL" and makes_room(queue) then
    local flushed, m, c = M.flush(queue)
    if flushed then
      ok, message, code = try(0)
    elseif c ~= "PHASE" then
      message, code = m, c
    end
  end
  refusals.note(queue, code)
  M.report(queue)
  return options.one(ok, message, code)
end

local function push_one(queue, payload, o)
  if o.key and (o.on_conflict or push.FAIL) == push.FAIL then
    compat.misuse("queue:push: in a buffered queue a 'key' needs "
                  .. "'on_conflict' \"ignore\" or \"replace\"")
  end
  local value, by = push.body(queue, payload)
  local given = push.core_options(queue, o)
  return put(queue, o, function(wait)
    return queue.buffer:push(value, by, given, wait)
  end)
end

local function merge_one(queue, payload, o)
  if o.key then
    compat.misuse("queue:push: option 'key' is not for a merging queue")
  end
  push.check(queue, payload)
  local name = merge.key(queue.merge, payload)
  if not name then return push_one(queue, payload, o) end
  return put(queue, o, function(wait)
    return merge.fold(queue, name, payload, o, wait)
  end)
end

-- Pushes one item into the queue's buffer.
---@param queue respool.queue
---@param payload any
---@param o table as push.read() returns them
---@return true?, string?, string?
function M.push(queue, payload, o)
  if queue.merge then return merge_one(queue, payload, o) end
  return push_one(queue, payload, o)
end

-- Pushes all of a list until one is refused. Returns true and how many, or
-- nil, message, code and how many were taken before.
---@param queue respool.queue
---@param list any[]
---@param o table
---@return true?, integer|string, string?, integer?
function M.push_many(queue, list, o)
  local names = o.partitions
  for i = 1, #list do
    if names then o.partition = names[i] or nil end
    local ok, message, code = M.push(queue, list[i], o)
    if not ok then return nil, message, code, i - 1 end
  end
  return true, #list
end

-- The barrier of one buffer.
---@param queue respool.queue
---@param timeout number? seconds
---@return true?, string?, string?
function M.flush(queue, timeout)
  local ok, message, code
  if timeout then
    ok, message, code = tickets.flush(timeout,
      core.start.buffer.flush(queue.buffer))
  else
    ok, message, code = queue.buffer:flush()
  end
  M.report(queue)
  hooks.drain(queue.store, code)
  return options.one(ok, message, code)
end

return M
