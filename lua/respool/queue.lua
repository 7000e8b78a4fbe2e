-- SPDX-License-Identifier: MIT
--
-- Queues: what a user does with one. The policy lies in the store and holds
-- for every process; functions and the codec belong to this handle.

local core = require "respool.core"
local buffer = require "respool.produce.buffer"
local changes = require "respool.produce.changes"
local closing = require "respool.observe.closing"
local codec = require "respool.support.codec"
local compat = require "respool.support.compat"
local dead = require "respool.dead"
local history = require "respool.history"
local hooks = require "respool.observe.hooks"
local items = require "respool.observe.items"
local options = require "respool.support.options"
local policy = require "respool.policy"
local results = require "respool.results"
local push = require "respool.produce.push"
local stats = require "respool.observe.stats"
local tracing = require "respool.observe.tracing"
local take = require "respool.consume.take"
local upgrade = require "respool.produce.upgrade"
local timing = require "respool.support.timing"
local work = require "respool.consume.work"
local tickets = require "respool.support.ticket"
require "respool.consume.batch"

local M = {}

---@class respool.queue
---@field name string
---@field store respool.store
---@field dead respool.dead the dead letters of its DLQ, as it was when opened
---@field history respool.history finished items, if it keeps them
---@field private handle userdata
---@field private codec respool.codec
---@field private stops integer rises with every stop()
---@field private batch_size integer? of the last work, where it is not given
---@field private batch_aim integer? microseconds that a batch of work is to
--- take
---@field private validate respool.validate?
---@field private decide respool.decide?
---@field private route respool.dead_letter_route?
---@field private on_handler_error fun(err: any, item: respool.item)?
---@field private is_outage respool.is_outage?
---@field private worker respool.working? that takes by it
---@field private flow_marks integer marks of outages and holds so far
---@field private flow_kind integer? that of the last of them
---@field private flow_told integer of these when the log was told last
---@field private flow_opened integer how often the breaker had opened then
---@field private flow_open boolean? whether it was open
---@field private flow_held number? until when the queue was held
---@field private on_dead fun(death: respool.death)?
---@field private buffer userdata? of buffered pushes
---@field private dropped integer? dead letters that keep_dead has removed, as
--- the log was told last; nil: it is not told
---@field private merge respool.merge?
---@field private version integer? of the payloads pushed and taken
---@field private upgrade respool.upgrade?
local Queue = { __name = "respool.queue" }
Queue.__index = Queue

-- The core's queue as it is stored; nil, message, code when there is none.
local function find(store, name)
  local handle, message, code = store.handle:find(name)
  if not handle then return nil, message, code end
  return handle, handle:config()
end

-- Logs a stored policy that has changed: a program that opens the queue with
-- other options changes it for all. That a queue which was made by a push, or
-- by looking, is given one is no cause for a warning, nor is a change that was
-- asked for.
local function tell_change(store, name, before, after, asked)
  local fields = policy.changes(before, after)
  if #fields == 0 then return end
  local level = (asked or policy.is_default(before)) and "info" or "warn"
  hooks.log(store, level, "the stored policy of a queue was changed",
            { queue = name, changes = table.concat(fields, ", ") })
end

-- The core's queue, found first where it must not be made.
local function handle_of(store, name, o, asked)
  local stored = policy.stored(o, name)
  local given = next(stored) ~= nil
  local before
  if given or o.create == false or store.read_only then
    local handle, config, code = find(store, name)
    if not handle and (o.create == false or store.read_only
                       or code ~= "NOT_FOUND") then
      return nil, config, code
    end
    if handle and not given then return handle end
    if handle then handle:close() end
    before = handle and config
  end
  local handle, message, code = store.handle:queue(name, stored)
  if not handle then return nil, message, code end
  if before then tell_change(store, name, before, handle:config(), asked) end
  return handle
end

-- Opens a queue of a store.
---@param store respool.store
---@param name string
---@param given respool.queue_options?
---@param asked boolean? whether it is opened to change its policy
---@return respool.queue?, string?, string?
---@nodiscard
function M.open(store, name, given, asked)
  options.argument(1, "store:queue", name, options.name)
  local o = options.read(policy.form, given, 2)
  upgrade.check(o)
  buffer.check(o)
  local handle, message, code = handle_of(store, name, o, asked)
  if not handle then return nil, message, code end
  local config
  config, message, code = handle:config()
  if not config then return nil, message, code end
  local queue = setmetatable({
    name = name, store = store, handle = handle, stops = 0,
    codec = o.codec or codec.default, validate = o.validate, decide = o.decide,
    route = type(o.dead_letter) == "function" and o.dead_letter or nil,
    on_handler_error = o.on_handler_error, on_dead = o.on_dead,
    is_outage = o.is_outage, flow_marks = 0, flow_told = 0, flow_opened = 0,
  }, Queue)
  if o.on_dead then
    handle:watch()
    store.handle:watch()
    store.watched = true
  end
  queue.dead = dead.new(store, config.dlq, queue.codec)
  queue.dead.queue = queue
  queue.history = history.new(queue)
  queue.version, queue.upgrade = o.version, o.upgrade
  if config.keep_dead_items < math.huge or config.keep_dead_bytes < math.huge
  then
    hooks.watch_dropped(queue)
  end
  local opened
  opened, message, code = buffer.open(queue, o)
  if not opened then return nil, message, code end
  return queue
end


-- Putting in and taking out.

local function push_one(queue, payload, o)
  if queue.buffer then return buffer.push(queue, payload, o) end
  local value, by = push.body(queue, payload)
  local id, more, code = push.send(queue, "push", value, by, o)
  hooks.drain(queue.store)
  if id == nil then return nil, more, code end
  if more then return id, more end
  return id
end

-- Pushes one item; it is on disk when this returns its id. With `on_conflict =
-- "ignore"` and a key that is held, it returns the id of the item that holds
-- the key, and "exists" as a second value. In a buffered queue the item is in
-- memory when this returns true, and a crash before the flush loses it.
---@param payload any
---@param given respool.push_options?
---@return integer|true|nil id, string?, string?
function Queue:push(payload, given)
  local o = push.read(given, 2)
  if closing.refuses(self.store) then return closing.refusal(self.store) end
  if self.store.tracer then
    return tracing.push(self, 1, o, push_one, payload)
  end
  return push_one(self, payload, o)
end

local function push_list(queue, list, o)
  if queue.buffer then return buffer.push_many(queue, list, o) end
  local values, by = push.bodies(queue, list)
  local n = #values -- others may change the list while this one waits
  local first, message, code = push.send(queue, "push_many", values, by, o)
  hooks.drain(queue.store)
  if not first then return nil, message, code end
  return first, n
end

-- Pushes all payloads of the list in one commit, or none; their ids are
-- consecutive from the first. In a buffered queue they are pushed one by one;
-- when one is refused, the fourth value is the number of those before it.
---@param list any[]
---@param given respool.push_options?
---@return integer|true|nil first, integer|string n, string?, integer?
function Queue:push_many(list, given)
  push.check_list("queue:push_many", 1, list)
  local o = push.read_many(given, 2, list)
  if closing.refuses(self.store) then return closing.refusal(self.store) end
  if self.store.tracer then
    return tracing.push(self, #list, o, push_list, list)
  end
  return push_list(self, list, o)
end

-- Takes items under a lease. The batch has length 0 when there is nothing.
---@param given respool.take_options?
---@return respool.batch?, string?, string?
---@nodiscard
function Queue:take(given)
  return take.take(self, options.read(take.form, given, 1))
end

-- Calls handler(payload, item) for item after item.
---@param handler fun(payload: any, item: respool.item): ...
---@param given respool.work_options?
---@return respool.work_counts?, string?, string?, respool.work_counts?
---@nodiscard
function Queue:work(handler, given)
  return work.work(self, handler, given)
end

-- Calls handler(batch) for batch after batch.
---@param handler fun(batch: respool.batch): ...
---@param given respool.work_options?
---@return respool.work_counts?, string?, string?, respool.work_counts?
---@nodiscard
function Queue:work_batches(handler, given)
  return work.work_batches(self, handler, given)
end

-- Asks the running work of this handle to end: the item in hand is finished,
-- the rest of its batch released.
function Queue:stop()
  self.stops, self.store.news = self.stops + 1, self.store.news + 1
  timing.wake()
end


-- Looking.

-- The next `n` items (1) in the order a take would deliver them, or as many as
-- have about 4 MiB; nothing in the store changes. The field `damaged` of the
-- list, if there is one, has the ids of items that were passed over because
-- their bytes are damaged.
---@param n integer?
---@return respool.stored_item[]?, string?, string?
---@nodiscard
function Queue:peek(n)
  if n ~= nil then
    options.argument(1, "queue:peek", n, options.whole(1, 2^31))
  end
  return items.present(self, self.handle:peek(n or 1))
end

local GET = { of = "queue:get", key = options.key }

-- The item with this id or key, whatever its state.
---@param name respool.item_name
---@return respool.stored_item?, string?, string?
---@nodiscard
function Queue:get(name)
  local found, message, code = items.present(
    self, self.handle:get(items.named(GET, name)))
  if not found then return nil, message, code end
  return found[1]
end

-- Iterates over the items, of one state or all. Items that move meanwhile may
-- be seen twice or not at all. Damaged items are passed over; on_damaged(ids)
-- is called with their ids. A storage error is raised.
---@param given { state: respool.item_state?, on_damaged: function? }?
---@return fun(): respool.stored_item?
function Queue:each(given)
  return items.each(self, given)
end

-- The result of a finished item: what its handler returned, or item:done() was
-- given; true if that was nothing. NOT_FOUND if the item is not finished, or
-- not kept any more (`keep_done`).
---@param id integer
---@return any, string?, string?
---@nodiscard
function Queue:result(id)
  options.argument(1, "queue:result", id, options.id)
  return results.get(self, id)
end

local AWAIT = { of = "queue:await", timeout = options.seconds_or_huge }

-- Waits until an item is over, at most `timeout`: TIMEOUT then. Returns its
-- result, as queue:result() does. DEAD when it died, with its dead letter as a
-- fourth value; NOT_FOUND when it ended in another way. The queue must keep
-- finished items (`keep_done`). An item that was over before, and has no
-- result, is looked for among all dead letters.
---@param id integer
---@param given { timeout: respool.seconds? }?
---@return any, string?, string?, respool.dead_letter?
---@nodiscard
function Queue:await(id, given)
  options.argument(1, "queue:await", id, options.id)
  local o = options.read(AWAIT, given, 2)
  return results.await(self, id, o.timeout or math.huge)
end


-- Changing.

local REMOVE = { of = "queue:remove", key = options.key }

-- Removes the item with this id or key, unless it is leased: BUSY.
---@param name respool.item_name
---@return true?, string?, string?
---@nodiscard
function Queue:remove(name)
  return self.handle:remove(items.named(REMOVE, name))
end

local RUN_NOW = { of = "queue:run_now", key = options.key }
local KILL = { of = "queue:kill", key = options.key }
local MOVE = { of = "queue:move", key = options.key }
local EDIT = { of = "queue:edit", key = options.key }
local CANCEL = { of = "queue:cancel", key = options.key }
local KILL_OPTIONS = { of = "queue:kill", error = options.string }

-- Makes the item with this id or key due now, if it is scheduled or retrying.
-- BUSY while it is leased.
---@param name respool.item_name
---@return true?, string?, string?
---@nodiscard
function Queue:run_now(name)
  return changes.by_id(self, items.named(RUN_NOW, name), function(id)
    return self.handle:item_run_now(id)
  end)
end

-- Makes the item a dead letter of the queue, with the reason "killed" and this
-- error; without one, with that of its last failure. BUSY while it is leased.
---@param name respool.item_name
---@param given { error: string? }?
---@return true?, string?, string?
---@nodiscard
function Queue:kill(name, given)
  local named = items.named(KILL, name)
  local o = options.read(KILL_OPTIONS, given, 2)
  local ok, message, code = changes.by_id(self, named, function(id)
    return self.handle:item_kill(id, o.error)
  end)
  hooks.drain(self.store, code)
  return ok, message, code
end

-- Moves the item to another queue of the store, in one commit; returns its id
-- there. Its origin, priority, key, headers, times, attempts, failures and memo
-- stay. BUSY while it is leased; EXISTS, FULL and TOO_LARGE as of a push.
---@param name respool.item_name
---@param to respool.queue
---@return integer? id, string?, string?
---@nodiscard
function Queue:move(name, to)
  local named = items.named(MOVE, name)
  options.argument(2, "queue:move", to, options.queue)
  if to.store ~= self.store then
    compat.misuse(("queue:move: queue '%s' is of another store"):format(
      to.name))
  elseif to.name == self.name then
    compat.misuse(("queue:move: the item is in queue '%s'"):format(to.name))
  end
  local id, message, code = changes.by_id(self, named, function(id)
    return self.handle:item_move(id, to.handle)
  end)
  hooks.drain(self.store, code)
  return id, message, code
end

-- Replaces the payload of the item, which keeps its id and its place. A
-- function is called with the present payload and the item, and returns the new
-- one, or nil and a reason: INVALID. It is called again when another process
-- has edited the item meanwhile. BUSY while it is leased; FULL and TOO_LARGE as
-- of a push.
---@param name respool.item_name
---@param payload any|fun(payload: any, item: respool.stored_item): any
---@return true?, string?, string?
---@nodiscard
function Queue:edit(name, payload)
  local named = items.named(EDIT, name)
  if type(payload) == "function" then
    return changes.edit_by(self, named, payload)
  end
  local value, by = push.new_body(self, payload)
  return changes.by_id(self, named, function(id)
    return self.handle:item_edit(value, by, id, self.version or 0)
  end)
end

-- Removes the item with this id or key whether it is leased or not; it counts
-- as removed. A handler that works on it learns that by item:cancelled(), and
-- its outcome and pushes are refused: LEASE_LOST. Items that were taken
-- together with it stay leased. A queue with `keep_done` has it in its history,
-- with the state "cancelled".
---@param name respool.item_name
---@return true?, string?, string?
---@nodiscard
function Queue:cancel(name)
  local ok, message, code = changes.by_id(
    self, items.named(CANCEL, name), function(id)
      return self.handle:item_cancel(id)
    end)
  local store = self.store
  store.cancels, store.news = store.cancels + 1, store.news + 1
  return ok, message, code
end

-- Removes every item that is not leased; returns how many.
---@return integer?, string?, string?
---@nodiscard
function Queue:purge()
  return self.handle:purge()
end

-- Pauses the queue: nothing is delivered, in any process; pushes go on.
---@return true?, string?, string?
---@nodiscard
function Queue:pause()
  return self.handle:pause(true)
end

-- Lets a paused queue go on.
---@return true?, string?, string?
---@nodiscard
function Queue:resume()
  return self.handle:pause(false)
end

local HOLD = {
  of = "queue:hold", reason = options.reason, partition = options.key,
}

-- Holds the queue, or one of its partitions: no process takes from it for so
-- long. A hold that lasts longer already stays; 0 ends a hold. `reason` is
-- shown with the hold.
---@param seconds respool.seconds
---@param given { reason: string?, partition: string? }?
---@return true?, string?, string?
---@nodiscard
function Queue:hold(seconds, given)
  seconds = options.argument(1, "queue:hold", seconds, options.seconds)
  local o = options.read(HOLD, given, 2)
  return self.handle:hold(seconds, o.reason, o.partition)
end

local PARTITIONS = {
  of = "queue:partitions", limit = options.whole(1, 1000),
  order = options.choice { key = false, size = true }, after = options.key,
}

---@class respool.partition
---@field key string
---@field ready integer
---@field leased integer
---@field scheduled integer or retrying
---@field held_until number? nil: it is not held
---@field held_for string? why
---@field allowed number by its rate, now; math.huge: it has none
---@field allowed_at number? when one more is, if none is now
---@field breaker "closed"|"open"|"half_open"
---@field breaker_until number? when the next probe may go
---@field outages integer since the partition was made
---@field opened integer how often the breaker has, since then

-- Partitions that have items, are held, used their rate lately, or whose
-- breaker is not closed: in the order of their keys, those behind `after`; or
-- those with most items first, for which all are looked at.
---@param given { order: "key"|"size"?, limit: integer?, after: string? }?
---@return respool.partition[]?, string?, string?
---@nodiscard
function Queue:partitions(given)
  local o = options.read(PARTITIONS, given, 1)
  return stats.partitions(self.handle, o.order, o.limit or 100, o.after)
end

-- All counters and figures of the queue; times in seconds. `buffer` has those
-- of its buffer, if it has one.
---@return respool.queue_stats?, string?, string?
---@nodiscard
function Queue:stats()
  local s, message, code = stats.queue(self.store, self.handle)
  if not s then return nil, message, code end
  if self.buffer then s.buffer = buffer.stats(self) end
  hooks.drain(self.store)
  return s
end

-- The number of items in each state; `total` is that of all that are not
-- settled, `dead` that of dead letters.
---@return table?, string?, string?
---@nodiscard
function Queue:length()
  local s, message, code = self.handle:stat()
  if not s then return nil, message, code end
  return {
    ready = s.ready, leased = s.leased, scheduled = s.scheduled,
    retrying = s.retrying, dead = s.dead,
    total = s.ready + s.leased + s.scheduled + s.retrying,
  }
end

-- The policy as it is stored now, in the form that store:queue takes, also of
-- another queue: `dead_letter` is false where the DLQ is the queue's own.
---@return respool.queue_policy?, string?, string?
---@nodiscard
function Queue:config()
  local c, message, code = self.handle:config()
  if not c then return nil, message, code end
  local config = policy.told(c)
  if c.dlq == self.name then config.dead_letter = false end
  return config
end

local FLUSH = { of = "queue:flush", timeout = options.seconds }

-- A durability barrier: earlier pushes and commits are on disk. It waits for
-- the queue's own buffer, not for those of other queues; with `timeout` no
-- longer than so many seconds; after TIMEOUT the flush goes on.
---@param given { timeout: respool.seconds? }?
---@return true?, string?, string?
---@nodiscard
function Queue:flush(given)
  local timeout = options.read(FLUSH, given, 1).timeout
  if self.buffer then return buffer.flush(self, timeout) end
  local handle, ok, message, code = self.store.handle
  if timeout then
    ok, message, code = tickets.flush(timeout, core.start.store.flush(handle))
  else
    ok, message, code = handle:flush()
  end
  hooks.drain(self.store)
  return options.one(ok, message, code)
end

options.guard_methods(Queue, "queue")

function Queue:__tostring()
  local state = self.handle:closed() and " (closed)" or ""
  return ("respool queue %s%s"):format(self.name, state)
end

return M
