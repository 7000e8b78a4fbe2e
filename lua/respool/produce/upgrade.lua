-- SPDX-License-Identifier: MIT
--
-- Payload versions. Each push stores the version of its queue handle beside
-- the payload; a handle with a version takes only payloads of that version,
-- or what its `upgrade` makes of older ones. A newer payload becomes a
-- dead letter with its bytes unchanged, for a program that can read it.

local core = require "respool.core"
local codec = require "respool.support.codec"
local compat = require "respool.support.compat"
local outcome = require "respool.support.outcome"

local batches = core.batch
local VERSION = batches.fields.version

local M = {}

-- The reason of such dead letters.
M.REASON = codec.VERSION

-- Options of a queue that make no sense without each other.
---@param o table
function M.check(o)
  if o.upgrade and not o.version then
    compat.misuse("store:queue: option 'upgrade' needs a 'version'")
  end
end

-- Calls the user's upgrade; nil and why when there is nothing to be had.
local function upgrade(queue, payload, from)
  if not queue.upgrade then
    return nil, ("payload version %d, and no upgrade to %d"):format(
      from, queue.version)
  end
  local ok, result, err = compat.pcall(queue.upgrade, payload, from)
  local why = not ok and outcome.describe(result).text
    or outcome.refusal("upgrade", result, err)
  if why then
    return nil, ("upgrade from version %d: %s"):format(from, why)
  elseif result == nil then
    return nil, ("upgrade from version %d returned nothing"):format(from)
  end
  return result
end

local function newer(from, to)
  return ("payload version %d is newer than %d"):format(from, to)
end

-- The payload of a stored item in the queue's version; nil, why, VERSION when
-- there is no way from its own.
---@param queue respool.queue
---@param item respool.stored_item
---@return any payload, string?, string?
function M.stored(queue, item)
  local from, to = item.version, queue.version
  if item.payload == nil or not to or from == to then return item.payload end
  if from > to then return nil, newer(from, to), "VERSION" end
  local payload, why = upgrade(queue, item.payload, from)
  if payload == nil then return nil, why, "VERSION" end
  return payload
end

-- The reader of a queue with a version: a payload of it, or nil, why, and
-- the reason of the dead letter to be.
---@param queue respool.queue
---@param read fun(batch: userdata, i: integer): any, string?
---@return fun(batch: userdata, i: integer): any, string?, string?
function M.reader(queue, read)
  return function(batch, i)
    local from = batches.field(batch, i, VERSION)
    if from == queue.version then return read(batch, i) end
    if from > queue.version then
      return nil, newer(from, queue.version), M.REASON
    end
    local payload, problem, reason = read(batch, i)
    if payload == nil then return nil, problem, reason end
    payload, problem = upgrade(queue, payload, from)
    return payload, problem, M.REASON
  end
end

return M
