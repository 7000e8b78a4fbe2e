-- SPDX-License-Identifier: MIT
--
-- A queue under test: `t.q` in a fresh store `t.store` on a manual clock, and
-- what specs do with it again and again.

local assert = require "luassert"
local helper = require "spec.helper"

local M = {}

---@class respool.spec.queue
---@field store respool.store
---@field q respool.queue
---@field options table? of the queue
local Test = {}
Test.__index = Test

-- Opens the queue with these options from now on, or with those of before.
function Test:queue(options)
  self.options = options or self.options
  self.q = assert(self.store:queue("orders", self.options))
  return self.q
end

local huge = math.huge

-- Options of a queue with a buffer that only these triggers flush.
---@param triggers table?
---@param options table? others of the queue
function M.buffered(triggers, options)
  local all = { codec = "raw" }
  all.buffer = { items = huge, bytes = huge, interval = 3600 }
  for name, value in pairs(triggers or {}) do all.buffer[name] = value end
  for name, value in pairs(options or {}) do all[name] = value end
  return all
end

-- A fresh store without a queue.
---@param of_store table?
---@return respool.spec.queue
function M.in_store(of_store)
  return setmetatable({ store = helper.store(of_store) }, Test)
end

-- A fresh store with the queue "orders".
---@param options table? of the queue
---@param of_store table?
---@return respool.spec.queue
function M.new(options, of_store)
  local t = M.in_store(of_store)
  t:queue(options or {})
  return t
end

-- Settles a batch, item by item, by a method of items.
function M.settle_each(batch, outcome, ...)
  for i = 1, #batch do
    local item = batch:item(i)
    item[outcome](item, ...)
  end
  assert(batch:settle())
end

-- Opens the queue with a buffer that only the triggers given here flush.
function Test:buffered(triggers, options)
  return self:queue(M.buffered(triggers, options))
end

-- Pushes "1" to "n".
function Test:push(n)
  for i = 1, n do assert.is_true(self.q:push(tostring(i))) end
end

-- Pushes 1 to n, in one call.
function Test:push_numbers(n)
  local list = {}
  for i = 1, n do list[i] = i end
  assert(self.q:push_many(list))
end

-- Pushes `n` items of a partition, whose payloads begin with its key.
---@param options table? of their push
function Test:fill(key, n, options)
  local list = {}
  for i = 1, n do list[i] = key .. i end
  local o = { partition = key }
  for name, value in pairs(options or {}) do o[name] = value end
  assert(self.q:push_many(list, o))
end

-- The partition of this key, as the queue lists it; or nil.
function Test:partition(key)
  for _, p in ipairs(assert(self.q:partitions())) do
    if p.key == key then return p end
  end
end

function Test:ready()
  return self.q:length().ready
end

-- The flushes of the buffer by reason.
function Test:flushes()
  local list = {}
  for reason, n in pairs(self.q:stats().buffer.flushes) do
    if n > 0 then list[reason] = n end
  end
  return list
end

-- Takes up to n items; 1.
function Test:take(n, lease)
  return assert(self.q:take { limit = n or 1, lease = lease })
end

-- Takes up to n items and settles them all by a method of batches. Returns
-- their payloads.
function Test:settle(n, verb, given)
  local batch = self:take(n)
  local payloads = helper.payloads(batch)
  batch[verb](batch, given)
  assert(batch:settle())
  return payloads
end

function Test:done(n)
  return self:settle(n, "done")
end

-- Lets up to n items fail, to be retried.
function Test:fail(n, given)
  return self:settle(n, "retry", given)
end

-- Closes the store and opens it again, on a manual clock of its own.
function Test:reopen()
  local location = self.store.path
  assert(self.store:close())
  self.store = assert(helper.open(location, { clock = "manual" }))
  self:queue()
end

return M
