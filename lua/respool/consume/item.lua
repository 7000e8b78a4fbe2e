-- SPDX-License-Identifier: MIT
--
-- Items of a batch: the batch and a number, nothing else until it is asked
-- for. An item is good as long as its batch is open.

local core = require "respool.core"
local batch_state = require "respool.consume.batch_state"
local compat = require "respool.support.compat"
local codec = require "respool.support.codec"
local decide = require "respool.consume.decide"
local handler_memo = require "respool.consume.handler_memo"
local held = require "respool.consume.held"
local item_pushes = require "respool.consume.item_pushes"
local misnamed = require "respool.support.fields"
local options = require "respool.support.options"
local progress = require "respool.consume.progress"
local outcome = require "respool.support.outcome"
local push = require "respool.produce.push"
local returned = require "respool.consume.returned"
local upgrade = require "respool.produce.upgrade"
local timing = require "respool.support.timing"
local tracing = require "respool.observe.tracing"

local batches = core.batch
local fields = batches.fields

local M = {}

---@class respool.item
---@field id integer
---@field payload any nil: it cannot be read, and the item is a dead letter
---@field queue string name of the queue
---@field priority integer
---@field attempts integer failures so far
---@field deliveries integer this one included
---@field crashes integer leases that ran out
---@field replays integer times it came back from a dlq
---@field pushed_at number
---@field origin respool.origin where and when it was first pushed
---@field codec string? of the payload; nil: CBOR
---@field expires_at number? nil: never
---@field version integer of the payload, as pushed
---@field key string?
---@field partition string?
---@field error string? of the last failure
---@field headers any
---@field original any the payload before a replay's transform
---@field memo string? what an earlier delivery left for this one
local Item = {}
local Methods = {}

M.type = Item

-- The item's slots: batch, number, the place of the handler of a fan-out or
-- chain that is running, the payload once it is decoded. The core makes items
-- too, with their payloads.
---@param batch userdata
---@param i integer
---@param payload any
---@return respool.item
function M.new(batch, i, payload)
  return setmetatable({ batch, i, false, payload }, Item)
end

-- The same item object for the same number, as long as somebody has it.
---@param batch userdata
---@param i integer
---@return respool.item
function M.at(batch, i)
  local state = batch_state.of(batch)
  local items = state.items or setmetatable({}, { __mode = "v" })
  state.items = items
  local it = items[i]
  if not it then
    it = M.new(batch, i)
    items[i] = it
  end
  return it
end

-- The kind of an item as an argument.
---@param value any
---@return respool.item?, string?
function M.kind(value)
  if getmetatable(value) == Item then return value end
  return nil, "an item of a batch"
end

---@return respool.queue
function M.queue_of(item)
  return batch_state.queue(item[1])
end
local queue_of = M.queue_of

local function decoder(queue)
  local own = queue.codec
  local function decode(batch, i)
    return codec.decode(own, batches.bytes(batch, i),
                        batches.field(batch, i, fields.codec))
  end
  if not own.native then return decode end
  local quick = batches.payload
  return function(batch, i)
    local payload, problem = quick(batch, i, codec.at_once)
    if payload ~= nil or problem then return payload, problem end
    return decode(batch, i)
  end
end

-- The function that reads the payload of item `i` of a batch of this queue:
-- nil, why and perhaps the reason of its dead letter when there is none.
---@param queue respool.queue
---@return fun(batch: userdata, i: integer): any, string?, string?
function M.reader(queue)
  local read = decoder(queue)
  return queue.version and upgrade.reader(queue, read) or read
end


-- Whether the core alone can read the payloads of this queue.
---@param queue respool.queue
---@return boolean
function M.is_plain(queue)
  return queue.codec.native and not queue.version
end


-- Fields that are made of stored bytes.

local derived = {}

-- nil when it cannot be read: the item is marked dead then, as by batch:each().
function derived.payload(item)
  local batch, i = item[1], item[2]
  if item[4] ~= nil or batch_state.is_unreadable(batch, i) then
    return item[4]
  end
  local payload, problem, reason = M.reader(queue_of(item))(batch, i)
  item[4] = payload
  if payload == nil and not batches.settled(batch, i) then
    decide.undecodable(queue_of(item), item, problem, reason)
  end
  return payload
end

function derived.queue(item)
  return queue_of(item).name
end

function derived.headers(item)
  return codec.headers(batches.field(item[1], item[2], fields.headers))
end

function derived.original(item)
  local bytes = batches.field(item[1], item[2], fields.original)
  if not bytes then return nil end
  return (codec.decode(queue_of(item).codec, bytes,
                       batches.field(item[1], item[2], fields.original_codec)))
end

function derived.origin(item)
  local function field(name)
    return batches.field(item[1], item[2], fields[name])
  end
  if not field "origin_queue" then
    return {
      queue = item.queue, id = item.id, pushed_at = item.pushed_at,
    }
  end
  return {
    queue = field "origin_queue", id = field "origin_id",
    pushed_at = field "origin_pushed_at",
  }
end

function derived.memo(item)
  return handler_memo.memo(item[1], item[2])
end

function Item.__index(item, name)
  if Methods[name] then return Methods[name] end
  if derived[name] then return derived[name](item) end
  local field = fields[name]
  if field then return batches.field(item[1], item[2], field) end
  if type(name) == "string" then
    misnamed.unknown("an item", name, { Methods, derived, fields })
  end
end

function Item.__tostring(item)
  return ("respool item %d of %s"):format(item.id, item.queue)
end


-- Outcomes: each marks, none settles; the last word counts.

-- Marks the item as done, with a result of up to 16 KiB in CBOR, which is kept
-- with the finished item if the queue keeps these (`keep_done`). An item whose
-- payload could not be read stays marked as dead.
---@param result any
function Methods:done(result)
  if result == nil or result == true then
    return returned.mark(self[1], self[2])
  end
  local bytes, problem = returned.encode(result)
  if not bytes then compat.misuse("item:done: the result: " .. problem) end
  return returned.mark(self[1], self[2], bytes)
end

-- The item failed and is tried again, after `delay` seconds or by policy.
---@param given { delay: number?, error: any, group: string|integer? }?
function Methods:retry(given)
  return decide.apply(queue_of(self), self, outcome.retry(given))
end

-- The item failed for good: it becomes a dead letter.
---@param given { error: any, group: string|integer?, dlq: string? }?
function Methods:dead(given)
  return decide.apply(queue_of(self), self, outcome.dead(given))
end

-- The item failed for good and is removed, without a dead letter.
---@param given { error: any }?
function Methods:drop(given)
  return decide.apply(queue_of(self), self, outcome.drop(given))
end

-- The item is ready again at once; no attempt is spent.
function Methods:release()
  return decide.apply(queue_of(self), self, outcome.release())
end

-- The item is scheduled again after `seconds`; no attempt is spent.
---@param seconds number
function Methods:snooze(seconds)
  return decide.apply(queue_of(self), self, outcome.snooze(seconds))
end

-- The item is ready again when its queue, which is held for `seconds`, goes on.
---@param seconds respool.seconds
---@param reason string?
function Methods:hold(seconds, reason)
  return decide.apply(queue_of(self), self, outcome.hold(seconds, reason))
end

-- Refused now, a push is the failure of the item that makes it, as it would
-- be when it is refused by the settle.
local function check_size(store, carried)
  local size = #carried.bytes + (carried.headers and #carried.headers or 0)
  if size > store.max_item_bytes then
    compat.misuse(("item:push: %d bytes are over max_item_bytes, %d"):format(
      size, store.max_item_bytes))
  end
end

-- Pushes in the commit that settles this item, if the item is done then; in a
-- fan-out, if the handler that pushes accepts it. In `work` a push that is
-- refused then (EXISTS, FULL, NOT_FOUND) makes this item fail, and no other,
-- with that code as its group; it is tried again by policy. A settle by hand is
-- refused as a whole.
---@param queue respool.queue of the same store
---@param payload any
---@param given respool.push_options?
function Methods:push(queue, payload, given)
  options.argument(1, "item:push", queue, options.queue)
  batches.settled(self[1], self[2]) -- raises when the batch is closed
  local store = queue_of(self).store
  local o = tracing.carried(queue, 1, push.read(given, 3))
  local carried = push.carried(store, queue, payload, o)
  check_size(store, carried)
  item_pushes.add(self[1], self[2], carried)
end

-- True when the queue's work is to stop: by stop(), by closing, or by a signal
-- to a process of respool.work_processes.
---@return boolean
function Methods:stopping()
  local state = batch_state.of(self[1])
  return timing.is_stopped(state.queue, state.stops)
end

-- Reports how far the handler has come with the item: a share from 0 to 1, a
-- text of up to 255 bytes, or both. The report is kept with the lease, shown
-- with items and workers, and removed by the settle. The last report counts; of
-- several within a second the first is stored, and a report of 1. LEASE_LOST
-- when the item is no longer the handler's.
---@param done number?
---@param text string?
---@return true?, string?, string?
function Methods:progress(done, text)
  return progress.report(self[1], self[2], done, text)
end

-- True when the item is no longer its handler's: queue:cancel() has removed it,
-- or its lease has run out. The handler's outcome is refused then. A cancel by
-- this store object is seen at once, any other within a second.
---@return boolean
function Methods:cancelled()
  return held.is_gone(self[1], self[2])
end

return M
