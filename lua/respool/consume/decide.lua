-- SPDX-License-Identifier: MIT
--
-- What becomes of an item that failed: the queue's `decide` is asked first,
-- its policy otherwise, and `dead_letter` names the DLQ of what dies. When
-- one of these functions raises, the policy holds and the history tells. When
-- one of them closes the store, the item has been released by that.

local core = require "respool.core"
local compat = require "respool.support.compat"
local handover = require "respool.consume.item_pushes"
local hooks = require "respool.observe.hooks"
local memory = require "respool.consume.handler_memo"
local outcome = require "respool.support.outcome"
local options = require "respool.support.options"

local batches = core.batch
local DEAD, RETRY = outcome.DEAD, outcome.RETRY

local M = {}

-- Calls a function of the user's. Returns its results after true, or false
-- and what is to be said of its error.
local function call(queue, name, f, ...)
  local ok, a, b = compat.pcall(f, ...)
  if ok then return true, a, b end
  local text = outcome.describe(a).text
  hooks.report(queue.store, name, text)
  return false, ("%s: %s"):format(name, text)
end


-- DLQs.

local function is_last_attempt(queue, item)
  local config = queue.handle:config()
  return config and config.on_exhausted == 0
    and item.attempts + 1 >= config.max_attempts
end

local function add_text(mark, text)
  mark.error = mark.error and ("%s; %s"):format(mark.error, text) or text
end

local function will_die(queue, item, mark)
  return mark.kind == DEAD
    or mark.kind == RETRY and is_last_attempt(queue, item)
end

-- The DLQ that `dead_letter` names.
local function route(queue, item, mark, err)
  local ok, dlq = call(queue, "dead_letter", queue.route, item, err)
  if ok and dlq ~= nil and not options.name(dlq) then
    ok, dlq = false, "dead_letter: returned no name of a DLQ"
  end
  if ok then return dlq end
  add_text(mark, dlq)
end


local function place_one(queue, item, mark, err, place)
  local batch, i = item[1], item[2]
  if queue.route and not mark.dlq and will_die(queue, item, mark) then
    mark.dlq = route(queue, item, mark, err)
    if batches.closed(batch) then return true end -- by dead_letter
  end
  return place(batch, i, mark.kind, mark.delay, mark.error, mark.trace,
               mark.group, mark.reason, mark.dlq, memory.of(batch, i))
end

-- Items that were merged into this one share what is said of it.
local function place_followers(queue, item, mark, err, place)
  local batch = item[1]
  local followers = batches.beside(batch).followers
  for _, other in ipairs(followers and followers[item[2]] or {}) do
    if batches.closed(batch) then return end -- by a hook
    local same = {}
    for name, value in pairs(mark) do same[name] = value end
    memory.share(batch, item[2], other[2])
    place_one(queue, other, same, err, place)
  end
end

-- Marks the item. `mark` has outcome, delay, error (text), trace, group,
-- reason, DLQ; `err` is the error as the handler gave it. `place` marks it
-- elsewhere than in its batch. What the item is to remember goes along.
---@param place fun(batch: userdata, i: integer, ...): any
---@return any, string?, string?
function M.place(queue, item, mark, err, place)
  batches.settled(item[1], item[2]) -- raises when the batch is closed
  place_followers(queue, item, mark, err, place)
  if batches.closed(item[1]) then return true end -- by a hook
  return place_one(queue, item, mark, err, place)
end

local function mark_in_batch(batch, i, ...)
  handover.note_mark(batch, i, ...)
  return batches.mark(batch, i, ...)
end

---@return true?, string?, string?
function M.mark(queue, item, mark, err)
  return M.place(queue, item, mark, err, mark_in_batch)
end

-- Marks the item with an outcome value.
---@param o respool.outcome
---@param place function? as in place()
function M.apply(queue, item, o, place)
  local failure = o.error ~= nil and outcome.describe(o.error) or {}
  return M.place(queue, item, {
    kind = o.kind, delay = o.delay, error = failure.text,
    group = o.group or failure.group, dlq = o.dlq,
  }, o.error, place or mark_in_batch)
end


-- Failures.

local DECISIONS = {
  retry = { RETRY, "delay" },
  dead = { DEAD, "group" },
  release = { outcome.RELEASE },
  drop = { outcome.DROP },
}

local CHECKS = {
  delay = options.seconds,
  group = options.string,
}

local function take_decision(mark, decision, detail)
  local kind, name = DECISIONS[decision][1], DECISIONS[decision][2]
  if detail ~= nil and name and CHECKS[name](detail) == nil then
    return add_text(mark, ("decide: bad %s for '%s'"):format(name, decision))
  end
  mark.kind, mark.delay = kind, nil
  if name and detail ~= nil then mark[name] = detail end
end

local function decide(queue, item, mark, err)
  local ok, decision, detail = call(queue, "decide", queue.decide, err, item)
  if not ok then
    add_text(mark, decision)
  elseif DECISIONS[decision] then
    take_decision(mark, decision, detail)
  elseif decision ~= nil then
    add_text(mark, "decide: returned no decision")
  end
end

local function tell(queue, item, err, mark)
  hooks.log(queue.store, "info", "a handler failed", {
    queue = queue.name, id = item.id, attempt = item.attempts + 1,
    error = mark.error, group = mark.group, trace = mark.trace,
  })
  if batches.closed(item[1]) then return end
  hooks.call(queue.store, "on_handler_error", queue.on_handler_error, err,
             item)
end

-- Asks who has a say, as long as none has closed the store.
local function consult(queue, item, mark, err, on_error)
  if queue.decide and not batches.closed(item[1]) then
    decide(queue, item, mark, err)
  end
  if on_error and not batches.closed(item[1]) then
    local ok, problem = call(queue, "on_error", on_error, err, item)
    if not ok then add_text(mark, problem) end
  end
end

-- Marks an item whose handler failed with `err`. One that a transaction of
-- the handler has settled stays so; the failure is told.
---@param trace string?
---@param on_error function?
function M.fail(queue, item, err, trace, on_error)
  local batch, i = item[1], item[2]
  local failure = outcome.describe(err)
  if batches.closed(batch) then return true end
  local mark = {
    kind = failure.final and DEAD or RETRY, delay = failure.delay,
    error = failure.text, group = failure.group, trace = trace,
  }
  tell(queue, item, err, mark)
  consult(queue, item, mark, err, on_error)
  if batches.closed(batch) or batches.settled(batch, i) then return true end
  return M.mark(queue, item, mark, err)
end

-- Marks an item whose payload cannot be had: a dead letter with its bytes.
---@param problem string
---@param reason string? "undecodable"
function M.undecodable(queue, item, problem, reason)
  if batches.closed(item[1]) then return true end -- by an upgrade
  return M.mark(queue, item, {
    kind = DEAD, reason = reason or "undecodable", error = problem,
  }, problem)
end

return M
