-- SPDX-License-Identifier: MIT
--
-- Dead letters: the contents of a DLQ, and removing or retrying single ones.

local background = require "respool.replay.background"
local closing = require "respool.observe.closing"
local compat = require "respool.support.compat"
local core = require "respool.core"
local codec = require "respool.support.codec"
local fields = require "respool.support.fields"
local hooks = require "respool.observe.hooks"
local options = require "respool.support.options"
local outcome = require "respool.support.outcome"
local page = require "respool.support.pages"
local push = require "respool.produce.push"
local replay = require "respool.replay.replay"
local timing = require "respool.support.timing"

local M = {}

---@class respool.dead_letter
---@field number integer rises within the dlq
---@field queue string where it died
---@field id integer its id there
---@field payload any nil when it cannot be decoded
---@field bytes string the payload as stored
---@field headers any
---@field header_bytes string? the headers as stored
---@field codec string? of the payload; nil: CBOR
---@field original any the payload before the first transform
---@field original_codec string? nil: CBOR
---@field key string?
---@field partition string?
---@field version integer of the payload
---@field memo string?
---@field origin respool.origin where and when it was first pushed
---@field reason string exhausted, rejected, expired, crashed, undecodable ...
---@field group string?
---@field error string?
---@field pushed_at number
---@field died_at number
---@field first_failed_at number?
---@field attempts integer
---@field deliveries integer
---@field crashes integer
---@field replays integer
---@field priority integer
---@field items integer 1, or those of a damaged segment set aside, or of a
--- damaged record of several dead letters, whose last stands for all of them
---@field damaged boolean it cannot be read or moved: `bytes` are what there is
---@field failures integer all there were
---@field history table[] the first and last of them: at, error, group, trace

---@class respool.dead
---@field dlq string
---@field store respool.store
---@field codec respool.codec
---@field queue respool.queue? whose dead letters they are
local Dead = { __name = "respool.dead" }
Dead.__index = Dead

---@param store respool.store
---@param dlq string
---@param of respool.codec
---@return respool.dead
function M.new(store, dlq, of)
  return setmetatable({ store = store, dlq = dlq, codec = of }, Dead)
end

-- Another DLQ of the same store.
---@param dlq string
---@return respool.dead
function Dead:in_dlq(dlq)
  return dlq == self.dlq and self or M.new(self.store, dlq, self.codec)
end

local DeadLetter = fields.record("a dead letter", [[
  number queue id payload bytes codec headers header_bytes original
  original_codec key version memo origin reason group error pushed_at died_at
  partition
  first_failed_at attempts deliveries crashes replays priority items damaged
  failures history
]], function(dead_letter)
  return ("respool dead letter %d of %s (%s)"):format(dead_letter.number,
    dead_letter.queue or "?", dead_letter.reason)
end)

local function present(dead, dead_letter)
  return setmetatable(codec.present(dead.codec, dead_letter), DeadLetter)
end

-- Dead letters of one page, as the core takes the options.
---@return respool.dead_letter[]?, string?, string?
---@nodiscard
function M.page(dead, o)
  local dead_letters, message, code = dead.store.handle:dead_list(dead.dlq, o)
  if not dead_letters then return nil, message, code end
  for _, dead_letter in ipairs(dead_letters) do present(dead, dead_letter) end
  return dead_letters
end


-- Looking.

-- The number of dead letters.
---@return integer?, string?, string?
---@nodiscard
function Dead:count()
  return self.store.handle:dead_count(self.dlq)
end

local function larger(a, b)
  if a.count ~= b.count then return a.count > b.count end
  if a.group ~= b.group then return a.group < b.group end
  return a.reason < b.reason
end

---@class respool.dead_group
---@field group string "" for those without a group
---@field reason string
---@field count integer
---@field newest integer the number of the dead letter that was added last
---@field first_died_at number? when the first of them died; nil: not known
---@field last_died_at number?
---@field hours integer[] how many of them died in each of the last 24 hours,
--- the one that ends now last

-- Dead letters counted by group and reason, most first.
---@return respool.dead_group[]?, string?, string?
---@nodiscard
function Dead:groups()
  local groups, message, code = self.store.handle:dead_groups(self.dlq)
  if not groups then return nil, message, code end
  table.sort(groups, larger)
  return groups
end

local order = options.choice { oldest = "oldest", newest = "newest" }

-- The options of a list as the core takes them.
local function core_list(o)
  o.descending, o.order = o.order == "newest", nil
  return o
end

local LIST = {
  of = "dead:list",
  after = options.whole(0, 2^53),
  limit = options.whole(1, 2^31),
  group = options.group,
  order = order,
  bytes = options.size,
}

---@class respool.dead_list_options
---@field after integer? numbers behind it, in the order asked for
---@field limit integer? 100
---@field group string? only those of this group; "" are those without one
---@field order "oldest"|"newest"? oldest first
---@field bytes integer|string? the list ends with the dead letter that brings
--- its payloads to so many; 4 MiB

-- Up to `limit` (100) dead letters, those after the number `after`.
---@param given respool.dead_list_options?
---@return respool.dead_letter[]?, string?, string?
---@nodiscard
function Dead:list(given)
  local o = core_list(options.read(LIST, given, 1))
  o.bytes = o.bytes or page.BYTES
  return M.page(self, o)
end

local EACH = {
  of = "dead:each", group = options.group, order = order,
}

-- Iterates over the dead letters. A storage error is raised.
---@param given { group: string|integer?, order: "oldest"|"newest"? }?
---@return fun(): respool.dead_letter?
function Dead:each(given)
  local o = core_list(options.read(EACH, given, 1))
  o.bytes = page.BYTES
  return page.each(function(last)
    o.after = last[#last] and last[#last].number
    return M.page(self, o)
  end)
end

-- The dead letter with this number.
---@param number integer
---@return respool.dead_letter?, string?, string?
---@nodiscard
function Dead:get(number)
  options.argument(1, "dead:get", number, options.id)
  local dead_letters, message,
    code = self.store.handle:dead_get(self.dlq, number)
  if not dead_letters then return nil, message, code end
  return present(self, dead_letters[1])
end

-- The oldest dead letter; nil when there is none.
---@return respool.dead_letter?, string?, string?
---@nodiscard
function Dead:oldest()
  local dead_letters, message, code = M.page(self, { limit = 1 })
  if not dead_letters then return nil, message, code end
  return dead_letters[1]
end


-- Putting in.

local function any(value)
  return value
end

local PUSH = {
  of = "dead:push", error = any, group = options.group,
  attempts = options.whole(0, 2^31), queue = options.queue,
  priority = options.whole(0, 255), headers = options.table, key = options.key,
}

---@class respool.dead_push_options
---@field error any what went wrong, as a handler's error: a text, or a table
--- with message and group
---@field group string|integer? by which it is counted; that of `error`
---@field attempts integer? that were made; 1
---@field queue respool.queue? where a replay brings it; the queue whose dead
--- letters these are
---@field priority integer? 0 to 255
---@field headers table? of the item that a replay makes
---@field key string? of that item

-- The queue that a failure is counted in.
local function queue_of_push(dead, o)
  local queue = o.queue or dead.queue
  if not queue then
    compat.misuse("dead:push: option 'queue' is missing")
  elseif queue.store ~= dead.store then
    compat.misuse(("dead:push: queue '%s' is of another store"):format(
      queue.name))
  end
  return queue
end

-- Adds a failure that happened elsewhere as a dead letter, without regard to
-- the bounds of the queue and to `validate`. Returns the number of the dead
-- letter.
---@param payload any
---@param given respool.dead_push_options?
---@return integer?, string?, string?
---@nodiscard
function Dead:push(payload, given)
  local o = options.read(PUSH, given, 2)
  local queue = queue_of_push(self, o)
  if closing.refuses(self.store) then return closing.refusal(self.store) end
  local value, by = push.encoded(queue, payload, "dead:push")
  local failure = o.error ~= nil and outcome.describe(o.error) or {}
  local number, message, code = queue.handle:dead_push(value, by, {
    priority = o.priority, version = queue.version, key = o.key,
    headers = o.headers and core.cbor.encode(o.headers),
  }, {
    dlq = self.dlq, attempts = o.attempts or 1, error = failure.text,
    group = o.group or failure.group,
  })
  hooks.drain(self.store, code)
  return options.one(number, message, code)
end


-- Taking out.

local function found(dead, count, number)
  if count > 0 then return true end
  return nil,
    ("there is no dead letter %d in DLQ '%s'"):format(number, dead.dlq),
    "NOT_FOUND"
end

local RETRY = {
  of = "dead:retry", to = options.queue, keep_attempts = options.boolean,
}

-- Moves one dead letter back to its queue, or to another. Its attempts begin at
-- 0 again unless `keep_attempts` is given. It keeps its key, unless another
-- item holds the key by now.
---@param number integer
---@param given { to: respool.queue?, keep_attempts: boolean? }?
---@return true?, string?, string?
---@nodiscard
function Dead:retry(number, given)
  options.argument(1, "dead:retry", number, options.id)
  local o = options.read(RETRY, given, 2)
  local moved, message, code = self.store.handle:dead_move(
    self.dlq, { { number } }, o.to and o.to.handle, o.keep_attempts)
  hooks.drain(self.store, code)
  if not moved then return nil, message, code end
  return found(self, moved, number)
end

-- Removes one dead letter.
---@param number integer
---@return true?, string?, string?
---@nodiscard
function Dead:remove(number)
  options.argument(1, "dead:remove", number, options.id)
  local removed, message, code =
    self.store.handle:dead_remove(self.dlq, { number })
  if not removed then return nil, message, code end
  return found(self, removed, number)
end

local PURGE = {
  of = "dead:purge",
  older_than = options.seconds,
  group = options.group,
  where = options.callable,
}

-- The numbers of a page's dead letters that are to go.
local function chosen(dead_letters, o, died_before)
  local numbers = {}
  for _, dead_letter in ipairs(dead_letters) do
    local died_at = dead_letter.died_at or math.huge -- a damaged one: not known
    if not died_before or died_at < died_before then
      local wanted, err = o.where(dead_letter)
      if wanted == nil and err ~= nil then error(err, 0) end
      if wanted then numbers[#numbers + 1] = dead_letter.number end
    end
  end
  return numbers
end

local function purge_where(dead, o, died_before)
  local list, removed = { group = o.group, bytes = page.BYTES }, 0
  while true do
    local dead_letters, message, code = M.page(dead, list)
    if not dead_letters then return nil, message, code end
    if #dead_letters == 0 then return removed end
    list.after = dead_letters[#dead_letters].number
    timing.breathe()
    local n
    n, message, code = dead.store.handle:dead_remove(
      dead.dlq, chosen(dead_letters, o, died_before))
    if not n then return nil, message, code end
    removed = removed + n
  end
end

-- Removes the dead letters that died more than `older_than` seconds ago, are of
-- `group`, and for which where(dead letter) is true; an option that is missing
-- excludes none. Returns how many.
---@param given { older_than: number?, group: string|integer?,
---  where: function? }?
---@return integer?, string?, string?
---@nodiscard
function Dead:purge(given)
  local o = options.read(PURGE, given, 1)
  local died_before = o.older_than and self.store:now() - o.older_than
  if died_before and died_before <= 0 then return 0 end
  if o.where then return purge_where(self, o, died_before) end
  return self.store.handle:dead_purge(self.dlq, {
    died_before = died_before, group = o.group,
  })
end

-- Moves dead letters back to a queue, in pages of one commit each. An item
-- keeps its origin and gets a new id; its attempts begin at 0. With a `name`
-- the replay can be resumed.
---@param given respool.replay_options?
---@return respool.replay_counts?, string?, string?, respool.replay_counts?
---@nodiscard
function Dead:replay(given)
  local counts, message, code, so_far = replay.run(self, M.page, given)
  hooks.drain(self.store, code)
  if not counts then return nil, message, code, so_far end
  return counts
end

-- Replays again and again, at an interval, from within work and store:maintain.
---@param given respool.background_options
---@return respool.background
function Dead:replay_every(given)
  return background.register(self, M.page, given)
end

options.guard_methods(Dead, "dead")

function Dead:__tostring()
  return ("respool dead letters of %s"):format(self.dlq)
end

return M
