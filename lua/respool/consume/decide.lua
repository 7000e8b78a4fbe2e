-- SPDX-License-Identifier: MIT
--
-- Decides the outcome of an item: the one that a handler or its caller gives
-- it; for a failure, that of the queue's `decide`, else of its policy. A
-- `dead_letter` function names the DLQ of an item that dies. When one of these
-- functions raises, the policy holds, and the history of the item says so.

local core = require "respool.core"
local batch_state = require "respool.consume.batch_state"
local flow = require "respool.consume.flow"
local hooks = require "respool.observe.hooks"
local location = require "respool.support.location"
local memo = require "respool.consume.handler_memo"
local outcome = require "respool.support.outcome"
local options = require "respool.support.options"
local text_of = require "respool.support.text"
local tracing = require "respool.observe.tracing"

local batches = core.batch
local DEAD, RETRY = outcome.DEAD, outcome.RETRY

local M = {}

-- Calls a function of the user's. Returns its results after true, or false
-- and the text of its error.
local function call(queue, name, f, ...)
  local ok, a, b = hooks.pcall(queue.store, f, ...)
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

-- Whether the queue's store can have a DLQ of this name: those in a database
-- are UTF-8.
local function is_dlq(queue, name)
  return options.name(name) and (text_of.is_utf8(name)
    or not location.is_database(queue.store.path))
end

-- Asks `dead_letter` for the DLQ of an item that will die.
local function route(queue, item, mark, err)
  local ok, dlq = call(queue, "dead_letter", queue.route, item, err)
  if ok and dlq ~= nil and not is_dlq(queue, dlq) then
    ok, dlq = false, "dead_letter: returned no name of a DLQ"
  end
  if ok then
    mark.dlq = dlq
  else
    add_text(mark, dlq)
  end
end


-- Marks.

local function copy(mark)
  local same = {}
  for name, value in pairs(mark) do same[name] = value end
  return same
end

-- The marks of the item and of those that were merged into it. `err` is the
-- error as the handler gave it.
---@param queue respool.queue
---@param item respool.item
---@param mark respool.mark
---@param err any
---@return { item: respool.item, mark: respool.mark }[]
function M.marks(queue, item, mark, err)
  local batch, list = item[1], { { item = item, mark = mark } }
  for _, follower in ipairs(batch_state.followers(batch, item[2])) do
    memo.share(batch, item[2], follower[2])
    list[#list + 1] = { item = follower, mark = copy(mark) }
  end
  for _, entry in ipairs(list) do
    if queue.route and not entry.mark.dlq
       and will_die(queue, entry.item, mark) then
      route(queue, entry.item, entry.mark, err)
    end
  end
  return list
end

-- Marks an item and those that were merged into it.
---@param queue respool.queue
---@param item respool.item
---@param mark respool.mark
---@param err any
---@return true?, string?, string?
function M.mark(queue, item, mark, err)
  batches.settled(item[1], item[2]) -- raises when the batch is closed
  if queue.store.tracer then tracing.note(queue.store, item, mark) end
  local ok, message, code
  for _, entry in ipairs(M.marks(queue, item, mark, err)) do
    ok, message, code = batch_state.mark(item[1], entry.item[2], entry.mark)
    if not ok then return nil, message, code end
  end
  return true
end

-- The mark that an outcome means.
---@param queue respool.queue
---@param o respool.outcome
---@return respool.mark
function M.mark_of(queue, o)
  local failure = o.error ~= nil and outcome.describe(o.error) or {}
  local mark = {
    kind = o.kind, delay = o.delay, error = failure.text,
    group = o.group or failure.group, dlq = o.dlq,
  }
  if mark.dlq and not is_dlq(queue, mark.dlq) then
    add_text(mark, "dead: the name of the DLQ is not UTF-8")
    mark.dlq = nil
  end
  flow.judge(queue, mark, o.error)
  flow.count(queue, mark)
  return mark
end

-- Marks the item with an outcome.
---@param queue respool.queue
---@param item respool.item
---@param o respool.outcome
---@return true?, string?, string?
function M.apply(queue, item, o)
  local ok, message, code = M.mark(queue, item, M.mark_of(queue, o), o.error)
  hooks.drain(queue.store)
  return options.one(ok, message, code)
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
  group = options.group,
}

local function take_decision(mark, decision, detail)
  local kind, name = DECISIONS[decision][1], DECISIONS[decision][2]
  local kept = name and detail ~= nil and CHECKS[name](detail) or nil
  if kept == nil and name and detail ~= nil then
    return add_text(mark, ("decide: bad %s for '%s'"):format(name, decision))
  end
  mark.kind, mark.delay = kind, nil
  if kept ~= nil then mark[name] = kept end
end

local function ask_decide(queue, item, mark, err)
  local ok, decision, detail = call(queue, "decide", queue.decide, err, item)
  if not ok then
    add_text(mark, decision)
  elseif DECISIONS[decision] then
    take_decision(mark, decision, detail)
  elseif decision ~= nil then
    add_text(mark, "decide: returned no decision")
  end
end

-- Marks an item whose handler failed with `err`: calls the log and the hooks,
-- then `decide` and `on_error`. An item that a transaction of the handler has
-- settled stays settled.
---@param queue respool.queue
---@param item respool.item
---@param err any
---@param trace string?
---@param on_error function?
---@return true?, string?, string?
function M.fail(queue, item, err, trace, on_error)
  local failure = outcome.describe(err)
  local mark = {
    kind = failure.final and DEAD or RETRY, delay = failure.delay,
    error = failure.text, group = failure.group, trace = trace,
  }
  hooks.log(queue.store, "warn", "a handler failed", {
    queue = queue.name, id = item.id, attempt = item.attempts + 1,
    error = mark.error, group = mark.group, trace = mark.trace,
  })
  hooks.call(queue.store, "on_handler_error", queue.on_handler_error, err,
             item)
  if queue.decide then ask_decide(queue, item, mark, err) end
  flow.judge(queue, mark, err)
  flow.count(queue, mark)
  if on_error then
    local ok, problem = call(queue, "on_error", on_error, err, item)
    if not ok then add_text(mark, problem) end
  end
  if batches.settled(item[1], item[2]) then return true end
  return M.mark(queue, item, mark, err)
end

-- Marks an item whose payload cannot be read: a dead letter with its bytes.
---@param queue respool.queue
---@param item respool.item
---@param problem string
---@param reason string? "undecodable"
---@return true?, string?, string?
function M.undecodable(queue, item, problem, reason)
  local mark = {
    kind = DEAD, reason = reason or "undecodable", error = problem,
  }
  if queue.route then route(queue, item, mark, problem) end
  return batch_state.mark_unreadable(item[1], item[2], mark)
end

return M
