-- SPDX-License-Identifier: MIT
--
-- A queue's options and its policy: the options as a user writes them, the
-- part of them that the store keeps, and what it keeps in the same words.

local backoff = require "respool.backoff"
local codec = require "respool.codec"
local options = require "respool.options"

local huge = math.huge

local M = {}

local function retry_policy(value)
  if backoff.is_policy(value) then return value end
  return nil, "a policy of respool.backoff"
end

local DEAD, DROP, COOLDOWN = 0, 1, 2

local function exhausted(value)
  if value == "dead" then return { fate = DEAD } end
  if value == "drop" then return { fate = DROP } end
  local seconds = type(value) == "table" and options.seconds(value.cooldown)
  if seconds and next(value, next(value)) == nil then
    return { fate = COOLDOWN, cooldown = seconds }
  end
  return nil, [["dead", "drop" or { cooldown = seconds }]]
end

local function box_or_function(value)
  if type(value) == "function" then return value end
  return options.name(value), "the name of a box, or a function"
end

M.form = {
  of = "store:queue",
  lease = options.seconds,
  max_hold = options.seconds,
  max_attempts = options.whole(1, huge),
  max_crashes = options.whole(1, huge),
  retry = retry_policy,
  on_exhausted = exhausted,
  ttl = options.seconds_or_huge,
  on_expire = options.choice { dead = DEAD, drop = DROP },
  ordered = options.boolean,
  max_items = options.whole(0, huge),
  max_queue_bytes = options.size_or_huge,
  overflow = options.choice { reject = true },
  dead_letter = box_or_function,
  decide = options.callable,
  check = options.callable,
  codec = codec.kind,
}

-- The part of the options that the store keeps, as the core takes it.
---@param o table as the form keeps them
---@return table
function M.stored(o)
  local fate = o.on_exhausted or {}
  return {
    lease = o.lease, max_hold = o.max_hold, max_attempts = o.max_attempts,
    max_crashes = o.max_crashes, ttl = o.ttl, on_expire = o.on_expire,
    on_exhausted = fate.fate, cooldown = fate.cooldown,
    ordered = o.ordered ~= nil and (o.ordered and 1 or 0) or nil,
    max_items = o.max_items, max_queue_bytes = o.max_queue_bytes,
    backoff = o.retry,
    box = type(o.dead_letter) == "string" and o.dead_letter or nil,
  }
end

local FATES = { [DEAD] = "dead", [DROP] = "drop" }

local KINDS = {
  [0] = "constant", "linear", "exponential", "polynomial", "fibonacci",
  "list", "decorrelated",
}
local JITTERS = { [0] = "none", "full", "equal" }

local function seconds_of(list)
  local seconds = {}
  for i, ms in ipairs(list) do seconds[i] = ms / 1000 end
  return seconds
end

-- A retry policy told: the constructor's name and its options.
local function describe(b)
  return {
    name = KINDS[b.kind], initial = b.initial / 1000, step = b.step / 1000,
    factor = b.factor, max = b.max / 1000, list = seconds_of(b.list),
    jitter = JITTERS[b.jitter] or b.ratio,
  }
end

-- The stored policy as the core gives it, in the words of the options.
---@param c table
---@return table
function M.told(c)
  return {
    lease = c.lease, max_hold = c.max_hold, max_attempts = c.max_attempts,
    max_crashes = c.max_crashes, ttl = c.ttl, ordered = c.ordered == 1,
    max_items = c.max_items, max_queue_bytes = c.max_queue_bytes,
    on_exhausted = FATES[c.on_exhausted] or { cooldown = c.cooldown },
    on_expire = FATES[c.on_expire], dead_letter = c.box,
    retry = describe(c.backoff),
  }
end

return M
