-- SPDX-License-Identifier: MIT
--
-- Pushes: their options, and payloads made ready for the core.

local core = require "respool.core"
local closing = require "respool.observe.closing"
local compat = require "respool.support.compat"
local codec = require "respool.support.codec"
local hooks = require "respool.observe.hooks"
local options = require "respool.support.options"
local outcome = require "respool.support.outcome"
local refusals = require "respool.observe.refusals"
local timing = require "respool.support.timing"
local tracing = require "respool.observe.tracing"

local M = {}

-- The core's numbers: a conflict, and overflows.
M.FAIL = 0
M.DROP_OLDEST, M.DEAD, M.WAIT = 1, 2, 3

---@class respool.push_options
---@field priority integer? 0..255, highest first; 0 when not given
---@field delay number? seconds
---@field at number? seconds since 1970; not with delay
---@field ttl number? seconds, or math.huge; the queue's when not given
---@field headers table? given back with the item
---@field key string? held until the item is done, dead, expired or removed;
--- the push itself ends an expired holder that is not leased
---@field on_conflict "fail"|"ignore"|"replace"? when the key is held
---@field dedup number? seconds that the key is held at least
---@field partition string? the partition of the item, 1 to 255 bytes; for
--- queue:push_many also a function of the payload that returns it, or nil
---@field timeout respool.seconds? how long to wait for room, then TIMEOUT;
--- math.huge: as long as it takes, which is the default with overflow = "wait";
--- otherwise 0. A push that an empty queue could not hold is FULL at once, an
--- item over max_queue_bytes TOO_LARGE

local CONFLICTS = { fail = M.FAIL, ignore = 1, replace = 2 }

M.form = {
  of = "queue:push",
  priority = options.whole(0, 255),
  delay = options.seconds,
  at = options.time,
  ttl = options.seconds_or_huge,
  headers = options.table,
  key = options.key,
  partition = options.key,
  on_conflict = options.choice(CONFLICTS),
  dedup = options.seconds,
  timeout = options.seconds_or_huge,
}

local NONE = {}

local function check_key(o)
  if not o.key and (o.on_conflict or o.dedup) then
    compat.misuse("queue:push: options 'on_conflict' and 'dedup' need a 'key'")
  end
end

-- Headers become bytes; times that exclude each other raise.
local function finish(o)
  if o.delay and o.at then
    compat.misuse("queue:push: options 'delay' and 'at' exclude each other")
  end
  check_key(o)
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

local MANY = { partition = function(value)
  if type(value) == "function" then return value end
  local name = options.key(value)
  return name, not name and "a string of 1 to 255 bytes or a function" or nil
end }
for name, kind in pairs(M.form) do MANY[name] = MANY[name] or kind end
MANY.of = "queue:push_many"

-- Raises what a payload would be lost by: a hole, or a key that is no place in
-- a list.
local function check_keys(of, list)
  local n = #list
  for i in pairs(list) do
    if type(i) ~= "number" or i < 1 or i % 1 ~= 0 then
      compat.misuse(("%s: the list has something at [%s]"):format(
        of, tostring(i):sub(1, 40)))
    end
    if i > n then n = i end
  end
  for i = 1, n do
    if list[i] == nil then
      compat.misuse(("%s: payload %d of %d is nil"):format(of, i, n))
    end
  end
end

-- Raises what is wrong with argument `n` of a function that takes a list.
---@param of string
---@param n integer
---@param list any[]
function M.check_list(of, n, list)
  if type(list) ~= "table" then
    options.bad_argument(n, of, "list of payloads", list)
  elseif #list == 0 then
    compat.misuse(of .. ": the list of payloads is empty")
  end
  if not core.cbor.is_sequence(list) then check_keys(of, list) end
end

-- The partition of each payload, where a function says it.
---@param list any[]
---@param of fun(payload: any): string?
---@return (string|false)[]
local function partitions(list, of)
  local names = {}
  for i, payload in ipairs(list) do
    local name = of(payload)
    if name ~= nil and not options.key(name) then
      compat.misuse("queue:push_many: 'partition' is to return a string of 1 "
                    .. "to 255 bytes, or nil")
    end
    names[i] = name or false
  end
  return names
end

-- As read(); what belongs to one item is refused.
---@param given respool.push_options?
---@param n integer
---@return table
---@param list any[] the payloads
function M.read_many(given, n, list)
  if given == nil then return NONE end
  local o = finish(options.read(MANY, given, n))
  if type(o.partition) == "function" then
    o.partitions, o.partition = partitions(list, o.partition), nil
  end
  if o.key then
    compat.misuse("queue:push_many: option 'key' is for a single push")
  end
  return o
end

-- Says no to a payload by raising, or by returning false, or nil and why.
---@alias respool.validate fun(payload: any): any, any

-- Raises why a function of the user's refuses a payload.
---@param validate respool.validate
---@param payload any
function M.validate(validate, payload)
  local why = outcome.refusal("validate", validate(payload))
  if why then compat.misuse("the payload is refused: " .. why) end
end

local NO_PAYLOAD = { ["function"] = true, thread = true }

local function need_payload(queue, payload, of, n)
  if payload == nil or queue.codec.native and NO_PAYLOAD[type(payload)] then
    options.bad_argument(n or 1, of, "a payload", payload)
  end
end

-- Raises when there is no payload or the queue's `validate` refuses it.
---@param queue respool.queue
---@param payload any
function M.check(queue, payload)
  need_payload(queue, payload, "queue:push")
  if queue.validate then M.validate(queue.validate, payload) end
end

-- A payload as the core takes it: the value itself and true where the core
-- encodes it, else bytes and the name of the codec. Raises when there is none,
-- naming the function.
---@param queue respool.queue
---@param payload any
---@param of string
---@return any value, true|string|nil codec
function M.encoded(queue, payload, of)
  need_payload(queue, payload, of)
  local c = queue.codec
  if c.native then
    local bytes = codec.encode_in_turns and not queue.buffer
      and codec.encode_in_turns(payload)
    if bytes then return bytes, nil end
    return payload, true
  end
  return codec.encode(c, payload), codec.mark(c)
end

-- The same, once `validate` has seen it.
---@param queue respool.queue
---@param payload any
---@return any value, true|string|nil codec
function M.body(queue, payload)
  M.check(queue, payload)
  return M.encoded(queue, payload, "queue:push")
end

-- The same for each of a list: the list itself, where the core alone looks at
-- them, and nothing but the list says what it has, as the core asks no
-- metatable.
---@param queue respool.queue
---@param list any[]
---@return any[] values, true|string|nil codec
function M.bodies(queue, list)
  if queue.codec.native and not queue.validate and not codec.encode_in_turns
     and getmetatable(list) == nil then
    return list, true
  end
  local values, by = {}, nil
  for i = 1, #list do values[i], by = M.body(queue, list[i]) end
  return values, by
end

-- The same for a payload that takes the place of another.
---@param queue respool.queue
---@param payload any
---@return any value, true|string|nil codec
function M.new_body(queue, payload)
  need_payload(queue, payload, "queue:edit", 2)
  return M.body(queue, payload)
end

-- The options as the core takes them, with the version of the payloads; nil
-- when there are none.
---@param queue respool.queue
---@param o table as read() returns them
---@return table?
function M.core_options(queue, o)
  local version = queue.version
  if o == NONE then return version and { version = version } end
  o.version = version
  return o
end

-- How long a push that finds no room is to wait.
local function wait_limit(queue, o)
  if o.timeout then return o.timeout end
  local config = queue.handle:config()
  return config and config.overflow == M.WAIT and math.huge or 0
end

-- Calls try(wait) once, and when there is no room again and again, each time
-- with a wait short enough for the interpreter to notice Ctrl-C. The fourth
-- value of try() says that no wait would help. A handler of work on the same
-- queue does not wait without end: it would wait for itself.
---@param queue respool.queue
---@param o table as read() returns them
---@param try fun(wait: number): any, string?, string?, boolean?
function M.push_until_room(queue, o, try)
  local result, more, code, never = try(0)
  if code ~= "FULL" or never then return result, more, code end
  local left = wait_limit(queue, o)
  if left == math.huge and closing.works_on(queue.store, queue.name) then
    return nil, more .. ", and its own handler would wait for room", code
  end
  local ends = timing.deadline(left)
  while left > 0 do
    result, more, code = try(timing.slice(queue.store, left))
    if code ~= "TIMEOUT" or queue.store.manual or timing.is_ending() then
      break
    end
    left = timing.left(ends)
  end
  return result, more, code
end

-- Pushes by a method of the queue's handle.
---@param queue respool.queue
---@param verb "push"|"push_many"
---@param value any
---@param by true|string the codec, as body() returns it
---@param o table as read() returns them
---@return integer?, string?, string?
function M.send(queue, verb, value, by, o)
  local handle, given = queue.handle, M.core_options(queue, o)
  local first, more, code = M.push_until_room(queue, o, function(wait)
    return handle[verb](handle, value, by, given, wait)
  end)
  refusals.note(queue, code)
  hooks.drain(queue.store, code)
  return first, more, code
end

local function refuse_timeout(o)
  if o.timeout then
    compat.misuse("a push in the commit of a settle takes no 'timeout'")
  end
end

-- A push that a settle or a transaction carries along, as the core takes it:
-- its options with queue, bytes and codec among them.
---@class respool.carried_push
---@field queue userdata of the core
---@field bytes string
---@field codec string? nil: CBOR
---@field headers string?
---@field key string?
---@field version integer?
---@field item integer? the number of the item of the batch that it belongs to

-- A push that a settle of `store` carries along.
---@param store respool.store
---@param queue respool.queue
---@param payload any
---@param o table as read() returns them
---@return respool.carried_push
function M.carried(store, queue, payload, o)
  if queue.store ~= store then
    compat.misuse(("queue '%s' is of another store"):format(queue.name))
  end
  refuse_timeout(o)
  local value, by = M.body(queue, payload)
  if by == true then value, by = core.cbor.encode(value), nil end
  local carried = o == NONE and {} or o
  carried.queue, carried.bytes, carried.codec = queue.handle, value, by
  carried.version = queue.version
  return carried
end

local function any(value)
  return value
end

local CARRIED = { of = "batch:settle", queue = options.queue, payload = any }
for name, kind in pairs(M.form) do CARRIED[name] = CARRIED[name] or kind end

local function carry(store, entry)
  local o = finish(options.read(CARRIED, entry, 1))
  if not o.queue then
    compat.misuse("batch:settle: a push names no 'queue'")
  end
  return M.carried(store, o.queue, o.payload, tracing.carried(o.queue, 1, o))
end

-- Entries { queue =, payload =, priority = ... } as the core takes them.
---@param store respool.store
---@param list table[]
---@return respool.carried_push[]
function M.carried_list(store, list)
  local rows = {}
  for i, entry in ipairs(list) do rows[i] = carry(store, entry) end
  return rows
end

-- Why a queue takes no items of partitions; false: it does.
---@param queue respool.queue
---@return string|false|nil, string?, string?
function M.no_partitions(queue)
  local config, message, code = queue.handle:config()
  if not config then return nil, message, code end
  return config.ordered == 1 and ("queue '%s': a queue in strict order has no "
    .. "partitions"):format(queue.name)
end

return M
