-- SPDX-License-Identifier: MIT
--
-- Records of an export as pushes. A record may come from anywhere that a user
-- has kept it: what is wrong with one is raised, and reported.

local archive = require "respool.transfer.format"
local codec = require "respool.support.codec"
local core = require "respool.core"
local options = require "respool.support.options"
local push = require "respool.produce.push"

local max = math.max

local M = {}

local NUMBER = options.whole(0, 2^53)

-- The fields that are looked at, but for payload and headers.
local KINDS = {
  { "number", NUMBER }, { "id", NUMBER }, { "version", NUMBER },
  { "queue", options.string }, { "bytes", options.string },
  { "header_bytes", options.string }, { "codec", options.string },
  { "key", push.form.key }, { "priority", push.form.priority },
  { "partition", push.form.key },
  { "pushed_at", options.time }, { "died_at", options.time },
  { "visible_at", options.time }, { "expires_at", options.time_or_huge },
}

local function check_field(record, name, kind)
  local value = record[name]
  if value == nil then return end
  local kept, expected = kind(value)
  if kept ~= nil then return end
  error(("its '%s' is not %s"):format(name, expected), 0)
end

local ORIGIN = {
  { "queue", options.name }, { "id", options.id },
  { "pushed_at", options.time },
}

local function check_origin(origin)
  if origin == nil then return end
  if type(origin) ~= "table" then error("its 'origin' is not a table", 0) end
  for _, field in ipairs(ORIGIN) do
    if not field[2](origin[field[1]]) then
      error(("its origin's '%s' is missing or wrong"):format(field[1]), 0)
    end
  end
end

-- Raises why a record cannot be pushed to any queue.
---@param record any
function M.check(record)
  if type(record) ~= "table" then
    error("it is no record, but a " .. type(record), 0)
  end
  for _, field in ipairs(KINDS) do check_field(record, field[1], field[2]) end
  check_origin(record.origin)
  local problem = archive.problem(record)
  if problem then error(problem, 0) end
  if record.bytes == nil and record.payload == nil then
    error("it has no payload", 0)
  end
end

-- The name of a record in messages: its number or, `at` being which it is of
-- all that were read, that.
---@param record any
---@param at integer
---@return string
function M.name(record, at)
  local of = type(record) == "table" and record or {}
  if NUMBER(of.number) then return ("dead letter %.0f"):format(of.number) end
  if NUMBER(of.id) then return ("item %.0f"):format(of.id) end
  return ("record %d"):format(at)
end

-- Where and when the item was first pushed, if the record says so.
---@param record table
---@return respool.origin?
local function origin(record)
  local o = record.origin
  if o == nil then o = record end
  if o.queue and o.id and o.pushed_at then
    return { queue = o.queue, id = o.id, pushed_at = o.pushed_at }
  end
end

-- The bytes to push and the name of their codec.
local function body(queue, record)
  if queue.validate or record.bytes == nil then
    local payload = record.payload
    if payload == nil then
      payload = assert(codec.decode(queue.codec, record.bytes, record.codec))
    end
    push.check(queue, payload)
    if record.bytes == nil then
      return codec.encode(queue.codec, payload), codec.mark(queue.codec)
    end
  end
  return record.bytes, record.codec
end

local function headers(record)
  if record.header_bytes or record.headers == nil then
    return record.header_bytes
  end
  return core.cbor.encode(record.headers)
end

-- The rest of an item's TTL and delay; a dead letter has neither.
local function times(queue, record)
  local now, o = queue.store:now(), {}
  if record.number then return o end
  if record.expires_at then o.ttl = max(record.expires_at - now, 0) end
  if record.visible_at and record.visible_at > now then
    o.at = record.visible_at
  end
  return o
end

local function check_version(queue, version)
  if queue.version and version and version > queue.version then
    error(("its payload version %.0f is newer than %.0f"):format(
      version, queue.version), 0)
  end
end

---@class respool.planned_push
---@field bytes string
---@field codec string? nil: CBOR
---@field origin respool.origin?
---@field options table as the core takes them

-- The push of a record. Raises why there is none.
---@param queue respool.queue
---@param record table that check() let pass
---@param on_conflict integer?
---@return respool.planned_push
function M.plan(queue, record, on_conflict)
  local o = times(queue, record)
  check_version(queue, record.version)
  o.version = record.version
  local bytes, mark = body(queue, record)
  o.headers, o.key, o.priority = headers(record), record.key, record.priority
  o.partition = record.partition
  if record.key then o.on_conflict = on_conflict end
  return {
    bytes = bytes, codec = mark, origin = origin(record), options = o,
  }
end

return M
