-- SPDX-License-Identifier: MIT
--
-- Pushes: their options, and payloads made ready for the core.

local core = require "respool.core"
local compat = require "respool.compat"
local codec = require "respool.codec"
local options = require "respool.options"

local M = {}

---@class respool.push_options
---@field priority integer? 0..255, highest first; 0 when not given
---@field delay number? seconds
---@field at number? seconds since 1970; not with delay
---@field ttl number? seconds, or math.huge; the queue's when not given
---@field headers table? given back with the item

M.form = {
  of = "queue:push",
  priority = options.whole(0, 255),
  delay = options.seconds,
  at = options.seconds,
  ttl = options.seconds_or_huge,
  headers = options.table,
}

local NONE = {}

-- Headers become bytes; times that exclude each other raise.
local function finish(o)
  if o.delay and o.at then
    compat.misuse("queue:push: options 'delay' and 'at' exclude each other")
  end
  if o.headers then o.headers = core.cbor.encode(o.headers) end
  return o
end

-- Options as the core takes them. `n` is which argument they are.
---@param given respool.push_options?
---@param n integer
---@return table
function M.read(given, n)
  if given == nil then return NONE end
  return finish(options.read(M.form, given, n))
end

-- What the core stores for a payload: the value itself where it does the
-- encoding, else bytes. Raises when there is no payload or the queue's
-- check refuses it.
---@param queue respool.queue
---@param payload any
---@return any value, boolean? native
function M.body(queue, payload)
  if payload == nil then
    options.bad_argument(1, "queue:push", "a payload", nil)
  end
  if queue.check then queue.check(payload) end
  local c = queue.codec
  if c.native then return payload, true end
  return codec.encode(c, payload)
end

-- A push that a settle of `store` carries along, as the core takes it.
---@param store respool.store
---@param queue respool.queue
---@param payload any
---@param o table as read() returns them
---@return table
function M.carried(store, queue, payload, o)
  if queue.store ~= store then
    compat.misuse(("queue '%s' is of another store"):format(queue.name))
  end
  local value, native = M.body(queue, payload)
  if native then value = core.cbor.encode(value) end
  return { queue.handle, value, o.headers, o.priority, o.delay, o.at, o.ttl }
end

local function any(value)
  return value
end

local CARRIED = { of = "lot:settle", queue = options.queue, payload = any }
for name, kind in pairs(M.form) do CARRIED[name] = CARRIED[name] or kind end

local function carry(store, entry)
  local o = finish(options.read(CARRIED, entry, 1))
  if not o.queue then
    compat.misuse("lot:settle: a push must name its 'queue'")
  end
  return M.carried(store, o.queue, o.payload, o)
end

-- Entries { queue =, payload =, priority = ... } as the core takes them.
---@param store respool.store
---@param list table[]
---@return table[]
function M.carried_list(store, list)
  local rows = {}
  for i, entry in ipairs(list) do rows[i] = carry(store, entry) end
  return rows
end

return M
