-- SPDX-License-Identifier: MIT
--
-- Sources: an export reads from one, and removes from it when it moves. Dead
-- letters are listed by number and removed; items are looked at or, to be
-- moved, taken and put off, so that nobody else takes items that are being
-- exported.
--
-- A record has `bytes`, `header_bytes` and `original_bytes` as stored beside
-- payload, headers and original. ticket(record) stands for it once it is
-- written: remove() takes it. The field `damaged` of a list that next() returns
-- holds the numbers that cannot be read: of dead letters, those in
-- the list that are damaged; of items, which are not in it.

local core = require "respool.core"
local codec = require "respool.support.codec"
local lock = require "respool.transfer.lock"
local outcome = require "respool.support.outcome"
local pages = require "respool.support.pages"
local take = require "respool.consume.take"
local timing = require "respool.support.timing"

local min, max, huge = math.min, math.max, math.huge
local batches = core.batch

local M = {}

---@class respool.source
---@field store respool.store
---@field codec respool.codec
---@field kind "dead_letters"|"items"
---@field name string the dlq, or the queue
---@field total integer how many records there were when it began

local PAGE = 100  -- records read at once
local CHUNK = 500 -- removed in one commit

-- Decodes in place, unless the writer wants no more than what is stored.
local function present(source, record)
  record.original_bytes = record.original
  if source.stored then return codec.present_stored(record) end
  return codec.present(source.codec, record)
end

local function present_all(source, records)
  for _, record in ipairs(records) do
    present(source, record)
    timing.breathe()
  end
  return records
end

-- Removes numbers, from the last to the first: as long as any is there, the
-- first one is.
local function in_chunks(tickets, remove)
  local removed = 0
  for last = #tickets, 1, -CHUNK do
    local numbers = {}
    for i = last, math.max(last - CHUNK + 1, 1), -1 do
      numbers[#numbers + 1] = tickets[i]
    end
    local n, message, code = remove(numbers)
    if not n then return nil, message, code end
    removed = removed + n
  end
  return removed
end


-- Dead letters.

local DeadLetters = {}
DeadLetters.__index = DeadLetters

local function last_number(source)
  local list, message, code = source.store.handle:dead_list(source.name, {
    limit = 1, descending = true, no_body = true,
  })
  if not list then return nil, message, code end
  return list[1] and list[1].number or 0
end

-- Dead letters of one process at a time are moved: they have no lease.
local function lock_dead(store)
  return lock.take(store, "export", "another export is moving dead letters of")
end

-- The dead letters of a DLQ. With `follow` also those that come later.
---@param dead respool.dead
---@param o { group: string?, remove: boolean?, follow: boolean? }
---@return respool.source?, string?, string?
function M.dead_letters(dead, o)
  local source = setmetatable({
    store = dead.store, codec = dead.codec, kind = "dead_letters",
    name = dead.dlq, group = o.group, after = 0, stored = o.writer.stored,
  }, DeadLetters)
  local message, code
  source.total, message, code = dead:count()
  if not source.total then return nil, message, code end
  source.upto, message, code = last_number(source)
  if not source.upto then return nil, message, code end
  if o.follow then source.upto = nil end
  if o.remove then
    source.lock, message, code = lock_dead(dead.store)
    if not source.lock then return nil, message, code end
  end
  return source
end

local function damaged_of(dead_letters)
  local numbers = {}
  for _, dead_letter in ipairs(dead_letters) do
    if dead_letter.damaged then numbers[#numbers + 1] = dead_letter.number end
  end
  return numbers
end

-- Up to `limit` records; none at the end, or as long as there are none.
---@return table[]?, string?, string?
function DeadLetters:next(limit)
  if self.upto and self.after >= self.upto then return {} end
  local list, message, code = self.store.handle:dead_list(self.name, {
    after = self.after, upto = self.upto, group = self.group,
    limit = min(limit, PAGE), bytes = pages.BYTES,
  })
  if not list then return nil, message, code end
  list.damaged = damaged_of(list)
  local last = list[#list]
  self.after = last and last.number or self.upto or self.after
  return present_all(self, list)
end

function DeadLetters.ticket(_, record)
  return record.number
end

-- Removes dead letters; how many there were.
---@return integer?, string?, string?
function DeadLetters:remove(tickets)
  return in_chunks(tickets, function(numbers)
    return self.store.handle:dead_remove(self.name, numbers)
  end)
end

-- The record with a number, if it is there.
function DeadLetters:get(number)
  local list, message, code =
    self.store.handle:dead_get(self.name, number)
  if list then return list[1] end
  if code == "NOT_FOUND" then return nil end
  return nil, message, code
end

-- Dead letters have no lease that could run out.
function DeadLetters.is_late()
  return false
end

function DeadLetters:close()
  if self.lock then self.lock:unlock() end
  return true
end


-- Items that are looked at.

local Items = {}
Items.__index = Items

local STATES = { [0] = "ready", "leased", "scheduled", "retrying" }

local function is_past(item, store)
  return item.state == "ready" or item.state == "leased"
    or item.visible_at <= store:now()
end

local function describe(source, item)
  item.queue, item.state = source.name, STATES[item.state]
  if is_past(item, source.store) then item.visible_at = nil end
  return present(source, item)
end

function Items:next(limit)
  local list, message, code =
    self.queue.handle:browse(self.cursor, nil, min(limit, PAGE))
  if not list then return nil, message, code end
  for _, item in ipairs(list) do
    describe(self, item)
    timing.breathe()
  end
  return list
end

function Items:get(id)
  local list, message, code = self.queue.handle:get(id)
  if not list and code ~= "NOT_FOUND" then return nil, message, code end
  if not list then return nil end
  list[1].queue = self.name
  return list[1]
end

Items.is_late = DeadLetters.is_late

function Items.ticket()
  return true
end

function Items.close()
  return true
end


-- Items that are moved. They are taken and put off for a while, which spends
-- nothing, so that nobody else gets them, and those of an export that fails or
-- is killed are ready again by themselves. In half of that time they are to be
-- written, accepted and removed.

local Taken = setmetatable({ get = Items.get }, { __index = Items })
Taken.__index = Taken

local LEAST, MOST = 20, 600 -- seconds that items are put off

local KEPT = {
  "id", "priority", "attempts", "deliveries", "crashes", "replays", "version",
  "key", "pushed_at", "expires_at", "error", "headers", "original", "memo",
  "partition", "codec", "original_codec", "origin_queue", "origin_id",
  "origin_pushed_at",
}

local function read_item(source, batch, i)
  local item = { queue = source.name, state = "ready" }
  for _, name in ipairs(KEPT) do
    item[name] = batches.field(batch, i, batches.fields[name])
  end
  item.bytes = batches.bytes(batch, i)
  return present(source, item)
end

-- The items of a batch, once they are put off.
local function hold(source, batch)
  local list = {}
  for i = 1, #batch do
    list[i] = read_item(source, batch, i)
    timing.breathe()
  end
  local ok, message,
    code = batches.mark_rest(batch, {
      kind = outcome.SNOOZE, delay = source.hold,
    })
  if ok then ok, message, code = batch:close() end
  if not ok then return nil, message, code end
  source.since = source.since or source.store:now()
  source.left = source.left - #list
  for _, item in ipairs(list) do source.ids[item.id] = true end
  return list
end

-- Takes no more items than there were: a busy producer must not keep it for
-- ever.
function Taken:next(limit)
  local o = { limit = min(limit, PAGE, self.left), bytes = pages.BYTES }
  if o.limit <= 0 then return {} end
  local batch, message, code = take.take(self.queue, o)
  if not batch then return nil, message, code end
  return hold(self, batch)
end

function Taken.ticket(_, item)
  return item.id
end

-- Removes items; how many were there, and not delivered to others meanwhile.
-- From the last to the first, as dead letters.
---@return integer?, string?, string?
function Taken:remove(tickets)
  local removed, message, code = in_chunks(tickets, function(ids)
    return self.queue.handle:remove_many(ids)
  end)
  if not removed then return nil, message, code end
  for _, id in ipairs(tickets) do self.ids[id] = nil end
  if next(self.ids) == nil then self.since = nil end
  return removed
end

-- Whether items are held so long that others may soon get them.
function Taken:is_late()
  return self.since ~= nil and self.store:now() - self.since > self.hold / 2
end

local function paused(queue)
  return nil, ("queue '%s' is paused: nothing can be taken out of it")
    :format(queue.name), "BUSY"
end

-- The items of a queue: all of them to be copied; to be moved, with `remove`,
-- those that are ready.
---@param queue respool.queue
---@param o { remove: boolean?, follow: boolean? }
---@param patience number? seconds that a writer may keep a batch
---@return respool.source?, string?, string?
function M.items(queue, o, patience)
  local stats, message, code = queue.handle:stat()
  if not stats then return nil, message, code end
  if o.remove and stats.paused then return paused(queue) end
  return setmetatable({
    store = queue.store, codec = queue.codec, kind = "items",
    stored = o.writer.stored,
    name = queue.name, queue = queue, cursor = core.cursor(),
    total = o.remove and stats.ready
      or stats.ready + stats.leased + stats.scheduled + stats.retrying,
    left = o.follow and huge or stats.ready, ids = {},
    hold = min(max(2 * (patience or 0), LEAST), MOST),
  }, o.remove and Taken or Items)
end

return M
