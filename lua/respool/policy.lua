-- SPDX-License-Identifier: MIT
--
-- A queue's options: its policy, which the store keeps, and the settings of one
-- handle. Both are given to store:queue in one table; queue:config() returns
-- the policy in the same words.

local backoff = require "respool.support.backoff"
local buffer = require "respool.produce.buffer"
local codec = require "respool.support.codec"
local compat = require "respool.support.compat"
local merge = require "respool.produce.merge"
local options = require "respool.support.options"

local huge = math.huge

local M = {}

-- A policy of respool.backoff, or one in the words of config().
local function retry_policy(value)
  if backoff.is_policy(value) then return value end
  local policy = type(value) == "table" and backoff.described(value)
  if policy then return policy end
  return nil, "a policy of respool.backoff"
end

local DEAD, DROP, COOLDOWN = 0, 1, 2

local function exhausted(value)
  if value == "dead" then return { outcome = DEAD } end
  if value == "drop" then return { outcome = DROP } end
  local seconds = type(value) == "table" and options.seconds(value.cooldown)
  if seconds and next(value, next(value)) == nil then
    return { outcome = COOLDOWN, cooldown = seconds }
  end
  return nil, [["dead", "drop" or { cooldown = seconds }]]
end

local WEIGHTS = "weights of 1 to 1000 by priority, 16 at most"
local is_priority, is_weight = options.whole(0, 255), options.whole(1, 1000)

local function weights(value)
  if type(value) ~= "table" then return nil, WEIGHTS end
  local flat = {}
  for priority, weight in pairs(value) do
    if not (is_priority(priority) and is_weight(weight)) or #flat >= 32 then
      return nil, WEIGHTS
    end
    flat[#flat + 1], flat[#flat + 2] = priority, weight
  end
  return flat
end

-- The fields of a table by their kinds, without those it does not have; nil
-- where one is unknown or wrong.
local function fields(value, kinds)
  local kept = {}
  if type(value) ~= "table" then return nil end
  for name, given in pairs(value) do
    kept[name] = kinds[name] and kinds[name](given)
    if kept[name] == nil then return nil end
  end
  return kept
end

-- A length of time that is not 0, `most` at most.
local function span(most)
  return function(value)
    local seconds = options.seconds(value)
    return seconds and seconds >= 0.001 and seconds <= most and seconds or nil
  end
end

local TOKENS = options.whole(1, 10^9)
local RATE = "{ items = 1 to 10^9, per = seconds up to 30 days (1), burst = 1 "
  .. "to 10^9 (items) }, or false"
local RATE_FIELDS = { items = TOKENS, per = span(30 * 86400), burst = TOKENS }

local function rate(value)
  if value == false then return { items = 0 } end
  local kept = fields(value, RATE_FIELDS)
  if not (kept and kept.items) then return nil, RATE end
  kept.per, kept.burst = kept.per or 1, kept.burst or 0
  return kept
end

local BREAKER = "true, false, or { failures = 1 to 100 (5), within = seconds "
  .. "(60), cooldown = seconds (60), probes = 1 to 1000 (1) }"
local BREAKER_FIELDS = {
  failures = options.whole(1, 100), within = options.seconds,
  cooldown = span(huge), probes = options.whole(1, 1000),
}

local function breaker(value)
  if value == false then return { failures = 0 } end
  local kept = fields(value == true and {} or value, BREAKER_FIELDS)
  if not kept then return nil, BREAKER end
  return {
    failures = kept.failures or 5, within = kept.within or 60,
    cooldown = kept.cooldown or 60, probes = kept.probes or 1,
  }
end

local PARTITIONS = "{ concurrency = 0 to 10^9, ordered = true or false, batch "
  .. "= 0 to 10^9, rate and breaker = as of a queue }"
local AMOUNT = options.whole(0, 10^9)
local PARTITION_FIELDS = {
  concurrency = AMOUNT, ordered = options.boolean, batch = AMOUNT, rate = rate,
  breaker = breaker,
}

local function partitions(value)
  local kept = fields(value, PARTITION_FIELDS)
  if not kept then return nil, PARTITIONS end
  return kept
end

-- How much is kept: seconds, a size, or a table of the kinds; a part that is
-- missing has no limit. A text of digits alone may mean either and is refused:
-- taken for bytes, what was meant as seconds would remove nearly everything.
local function keep(kinds, expected)
  return function(value)
    local kept = {}
    if type(value) == "table" then
      kept = next(value) ~= nil and fields(value, kinds)
    elseif type(value) == "string" and value:find "%a" and options.size(value)
    then
      kept.bytes = options.size(value)
    else
      kept.seconds = options.seconds_or_huge(value)
    end
    if not kept or next(kept) == nil then return nil, expected end
    for name in pairs(kinds) do kept[name] = kept[name] or huge end
    return kept
  end
end

local keep_done = keep({
  seconds = options.seconds_or_huge, bytes = options.size_or_huge,
}, "seconds, a size, or { seconds =, bytes = }")

local keep_dead = keep({
  seconds = options.seconds_or_huge, items = options.whole(1, huge),
  bytes = options.size_or_huge,
}, "seconds, a size, or { seconds =, items = 1 or more, bytes = }")

local function dlq_or_function(value)
  if type(value) == "function" or value == false then return value end
  return options.name(value), "the name of a DLQ, a function, or false"
end

-- The policy of a queue: stored, and honoured by every program. An option that
-- is not given stays as it is stored, also when an option is taken out of a
-- program: to go back to a default, give it. A new queue has the defaults.
---@class respool.queue_policy
---@field lease respool.seconds? how long a taken item is leased: 30; from
--- 1 ms to 7 days
---@field max_lease respool.seconds? how long a lease may be renewed: 3600
---@field max_attempts integer? failures until an item is given up: 5; or
--- math.huge
---@field max_crashes integer? leases that run out until an item is given up: 3;
--- or math.huge
---@field retry respool.backoff.policy|table? when an item that failed is tried
--- again: exponential from 1 s to 1 h with full jitter; or a table in the words
--- of config()
---@field on_exhausted "dead"|"drop"|{ cooldown: respool.seconds }? what becomes
--- of an item at max_attempts: "dead"; with a cooldown it is tried again then,
--- counted anew
---@field ttl respool.seconds? how long an item may wait to be taken: math.huge
---@field on_expire "dead"|"drop"? what becomes of an item after its ttl: "dead"
---@field ordered boolean? nothing is delivered while an earlier item of its
--- priority is leased or waits: false
---@field max_items integer? how many items the queue holds at most: math.huge
---@field max_queue_bytes integer|string? how many bytes of payloads it holds at
--- most: math.huge
---@field overflow "reject"|"drop_oldest"|"dead"|"wait"? what becomes of a push
--- beyond that: "reject"; with "dead" the new item becomes a dead letter
---@field weights table<integer, integer>? shares of the priorities: { [9] = 5,
--- [0] = 1 }; {}: the highest priority first, always
---@field keep_done respool.seconds|string|table? how long finished items are
--- kept: 0; a length of time, a size, or { seconds =, bytes = }
---@field keep_dead respool.seconds|string|table? how long dead letters are
--- kept: math.huge; a length of time, a size, or { seconds =, items =,
--- bytes = }: beyond that the oldest are removed from the queue's own DLQ
---@field rate respool.rate|false? how many items may be taken: false, any
---@field breaker respool.breaker|boolean? holds the queue during an outage:
--- false; true: { failures = 5, within = 60, cooldown = 60, probes = 1 }
---@field partitions respool.partition_policy? no bounds; what bounds the items
--- of each partition
---@field dead_letter string|false|respool.dead_letter_route? the DLQ of its
--- dead letters: false, that of the queue's name. A function is a setting of
--- this handle

-- At most `items` in each `per`, evenly, over all processes; `burst` of them at
-- once after a rest.
---@class respool.rate
---@field items integer
---@field per respool.seconds? 1
---@field burst integer? items

-- After so many failures in a row that are outages, none later than `within`
-- after the one before, nothing is taken for `cooldown`; then so many items go
-- first, and one that is done ends it. Such failures spend no attempt.
---@class respool.breaker
---@field failures integer? 5
---@field within respool.seconds? 60
---@field cooldown respool.seconds? 60
---@field probes integer? 1

-- What bounds each partition, which is all items pushed with the same key.
---@class respool.partition_policy
---@field concurrency integer? 0; so many items are leased at once; 0: any
---@field ordered boolean? false; nothing is delivered while an earlier item is
--- leased or waits
---@field batch integer? 0; items in one batch; 0: its share, one if ordered
---@field rate respool.rate|false? false
---@field breaker respool.breaker|boolean? false

-- Settings of this handle alone.
---@class respool.queue_settings
---@field codec "cbor"|"raw"|respool.codec? how payloads are stored: "cbor"
---@field validate respool.validate? refuses payloads at their push
---@field decide respool.decide? the outcome of a failure
---@field is_outage respool.is_outage? which failures the breaker counts: those
--- whose group is "refused", "timeout", "closed", "resolve" or 500 to 599
---@field version integer? of the payloads: stored with each push; others are
--- upgraded, or become dead letters
---@field upgrade respool.upgrade? changes payloads of other versions
---@field buffer respool.buffer_options? pushes are gathered in memory
---@field merge respool.merge? folds pushes in the buffer
---@field on_handler_error (fun(err: any, item: respool.item))? sees every
--- failure of a handler
---@field on_dead (fun(death: respool.death))? of items that this handle takes
--- or pushes
---@field create boolean? false: NOT_FOUND when there is no such queue

---@class respool.queue_options : respool.queue_policy, respool.queue_settings

-- The outcome of an item whose handler failed; the policy's own when it
-- returns nothing: "retry" and perhaps a delay, "dead" and perhaps a group,
-- "release", or "drop".
---@alias respool.decide fun(err: any, item: respool.item): string?, any

-- Whether an error means that what items are sent to is away.
---@alias respool.is_outage fun(err: any): boolean?

-- The DLQ of an item that is about to die; nil: as the policy says.
---@alias respool.dead_letter_route fun(item: respool.item, err: any): string?

-- A payload of the version `from`, changed to the version of the queue.
---@alias respool.upgrade fun(payload: any, from: integer): any, any

M.form = {
  of = "store:queue",
  lease = options.lease,
  max_lease = options.positive_seconds_or_huge,
  max_attempts = options.whole(1, huge),
  max_crashes = options.whole(1, huge),
  retry = retry_policy,
  on_exhausted = exhausted,
  ttl = options.seconds_or_huge,
  on_expire = options.choice { dead = DEAD, drop = DROP },
  ordered = options.boolean,
  max_items = options.whole(0, huge),
  max_queue_bytes = options.size_or_huge,
  overflow = options.choice { reject = 0, drop_oldest = 1, dead = 2, wait = 3 },
  weights = weights,
  keep_done = keep_done,
  keep_dead = keep_dead,
  rate = rate,
  breaker = breaker,
  partitions = partitions,
  is_outage = options.callable,
  dead_letter = dlq_or_function,
  decide = options.callable,
  on_handler_error = options.callable,
  on_dead = options.callable,
  validate = options.callable,
  codec = codec.kind,
  buffer = buffer.kind,
  merge = merge.kind,
  version = options.whole(0, 2^53),
  upgrade = options.callable,
  create = options.boolean,
}

local function whether(value)
  if value == nil then return nil end
  return value and 1 or 0
end

-- The part of the options that the store keeps, as the core takes it.
---@param o table as the form keeps them
---@param queue string its name
---@return table
function M.stored(o, queue)
  local over, kept = o.on_exhausted or {}, o.keep_done or {}
  local dead = o.keep_dead or {}
  local tokens, trips = o.rate or {}, o.breaker or {}
  local each = o.partitions or {}
  local part, part_trips = each.rate or {}, each.breaker or {}
  return {
    lease = o.lease, max_lease = o.max_lease, max_attempts = o.max_attempts,
    max_crashes = o.max_crashes, ttl = o.ttl, on_expire = o.on_expire,
    on_exhausted = over.outcome, cooldown = over.cooldown,
    ordered = whether(o.ordered),
    max_items = o.max_items, max_queue_bytes = o.max_queue_bytes,
    overflow = o.overflow, weights = o.weights, keep_done = kept.seconds,
    keep_done_bytes = kept.bytes, keep_dead = dead.seconds,
    keep_dead_items = dead.items, keep_dead_bytes = dead.bytes,
    backoff = o.retry, rate_items = tokens.items, rate_per = tokens.per,
    rate_burst = tokens.burst, breaker_failures = trips.failures,
    breaker_within = trips.within, breaker_cooldown = trips.cooldown,
    breaker_probes = trips.probes,
    partition_concurrency = each.concurrency, partition_batch = each.batch,
    partition_ordered = whether(each.ordered),
    partition_rate_items = part.items, partition_rate_per = part.per,
    partition_rate_burst = part.burst,
    partition_breaker_failures = part_trips.failures,
    partition_breaker_within = part_trips.within,
    partition_breaker_cooldown = part_trips.cooldown,
    partition_breaker_probes = part_trips.probes,
    dlq = o.dead_letter == false and queue
      or type(o.dead_letter) == "string" and o.dead_letter or nil,
  }
end

local OVERFLOWS = { [0] = "reject", "drop_oldest", "dead", "wait" }
local OUTCOMES = { [DEAD] = "dead", [DROP] = "drop" }

local function kept(c)
  if c.keep_done_bytes == huge then return c.keep_done end
  return { seconds = c.keep_done, bytes = c.keep_done_bytes }
end

-- Of several bounds those that are there.
local function kept_dead(c)
  local seconds, items, bytes = c.keep_dead, c.keep_dead_items,
    c.keep_dead_bytes
  if items == huge and bytes == huge then return seconds end
  return {
    seconds = seconds < huge and seconds or nil,
    items = items < huge and items or nil,
    bytes = bytes < huge and bytes or nil,
  }
end

local function told_rate(items, per, burst)
  return items > 0 and {
    items = items, per = per, burst = burst > 0 and burst or items,
  }
end

local function told_breaker(c, of)
  local failures = c[of .. "breaker_failures"]
  return failures > 0 and {
    failures = failures, within = c[of .. "breaker_within"],
    cooldown = c[of .. "breaker_cooldown"], probes = c[of .. "breaker_probes"],
  }
end

local function told_partitions(c)
  return {
    concurrency = c.partition_concurrency, batch = c.partition_batch,
    ordered = c.partition_ordered == 1,
    rate = told_rate(c.partition_rate_items, c.partition_rate_per,
                     c.partition_rate_burst),
    breaker = told_breaker(c, "partition_"),
  }
end

local function show(value)
  if type(value) ~= "table" then return compat.text(value) end
  local parts = {}
  for name, v in pairs(value) do
    parts[#parts + 1] = ("%s = %s"):format(name, show(v))
  end
  table.sort(parts)
  return "{ " .. table.concat(parts, ", ") .. " }"
end

-- The differences of two policies, as the core gives them: lines such as
-- "max_items 10 -> 20", in the order of the options.
---@param before table
---@param after table
---@return string[]
function M.changes(before, after)
  local old, new, list = M.told(before), M.told(after), {}
  for name, value in pairs(new) do
    local was, is = show(old[name]), show(value)
    if was ~= is then
      list[#list + 1] = ("%s %s -> %s"):format(name, was, is)
    end
  end
  table.sort(list)
  return list
end

-- The policy of a queue that was made without one.
local DEFAULTS = {
  lease = 30, max_lease = 3600, max_attempts = 5, max_crashes = 3, ttl = huge,
  ordered = false, max_items = huge, max_queue_bytes = huge,
  on_exhausted = "dead", overflow = "reject", weights = {}, keep_done = 0,
  keep_dead = huge, on_expire = "dead", rate = false, breaker = false,
  partitions = {
    concurrency = 0, batch = 0, ordered = false, rate = false, breaker = false,
  },
  retry = backoff.describe(backoff.exponential {
    initial = 1, max = 3600, jitter = "full",
  }),
}

-- Whether a policy as the core gives it is that of a queue that was made
-- without one: nobody has decided on it.
---@param c table
---@return boolean
function M.is_default(c)
  local stored = M.told(c)
  for name, value in pairs(DEFAULTS) do
    if show(stored[name]) ~= show(value) then return false end
  end
  return true
end

-- The value of a setting that was written in JSON, where names are texts: those
-- of weights are numbers.
---@param value any
---@return any
function M.from_json(value)
  if type(value) ~= "table" then return value end
  local all = {}
  for name, part in pairs(value) do
    local digits = type(name) == "string" and name:match "^%d+$"
    all[tonumber(digits) or name] = part
  end
  return all
end

-- The changes that options would make to a policy as the core gives it, in the
-- form of changes(). Raises the errors of store:queue.
---@param before table
---@param given respool.queue_policy
---@param queue string its name
---@return string[]
function M.planned(before, given, queue)
  local after = {}
  for name, value in pairs(before) do after[name] = value end
  local stored = M.stored(options.read(M.form, given, 2), queue)
  for name, value in pairs(stored) do after[name] = value end
  return M.changes(before, after)
end

-- The stored policy as the core gives it, in the words of the options: it can
-- be given back to store:queue.
---@param c table
---@return table
function M.told(c)
  return {
    lease = c.lease, max_lease = c.max_lease, max_attempts = c.max_attempts,
    max_crashes = c.max_crashes, ttl = c.ttl, ordered = c.ordered == 1,
    max_items = c.max_items, max_queue_bytes = c.max_queue_bytes,
    on_exhausted = OUTCOMES[c.on_exhausted] or { cooldown = c.cooldown },
    overflow = OVERFLOWS[c.overflow], weights = c.weights,
    keep_done = kept(c), keep_dead = kept_dead(c),
    on_expire = OUTCOMES[c.on_expire], dead_letter = c.dlq,
    retry = backoff.describe(c.backoff),
    rate = told_rate(c.rate_items, c.rate_per, c.rate_burst),
    breaker = told_breaker(c, ""), partitions = told_partitions(c),
  }
end

return M
