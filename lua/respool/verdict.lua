-- SPDX-License-Identifier: MIT
--
-- What becomes of an item that failed: the queue's `decide` is asked first,
-- its policy otherwise, and `dead_letter` names the box of what dies. When
-- one of these functions raises, the policy holds and the history tells.

local core = require "respool.core"
local compat = require "respool.compat"
local outcome = require "respool.outcome"
local options = require "respool.options"

local lots = core.lot
local DEAD, RETRY = outcome.DEAD, outcome.RETRY

local M = {}

-- Calls a function of the user's. Returns its results after true, or false
-- and what is to be said of its error.
local function call(name, f, ...)
  local ok, a, b = compat.pcall(f, ...)
  if ok then return true, a, b end
  return false, ("%s: %s"):format(name, outcome.describe(a).text)
end


-- Boxes.

local function is_last_attempt(queue, item)
  local config = queue.handle:config()
  return config and config.on_exhausted == 0
    and item.attempts + 1 >= config.max_attempts
end

local function add_text(mark, text)
  mark.error = mark.error and ("%s; %s"):format(mark.error, text) or text
end

-- The box that `dead_letter` names, asked only when the item will die.
local function route(queue, item, mark, err)
  if mark.verdict == RETRY and not is_last_attempt(queue, item) then return end
  local ok, box = call("dead_letter", queue.route, item, err)
  if ok and box ~= nil and not options.name(box) then
    ok, box = false, "dead_letter: returned no name of a box"
  end
  if ok then return box end
  add_text(mark, box)
end

-- Marks the item. `mark` has verdict, delay, error (text), trace, group,
-- reason, box; `err` is the error as the handler gave it.
---@return true?, string?, string?
function M.mark(queue, item, mark, err)
  local dies = mark.verdict == DEAD or mark.verdict == RETRY
  if dies and queue.route and not mark.box then
    mark.box = route(queue, item, mark, err)
  end
  return lots.mark(item[1], item[2], mark.verdict, mark.delay, mark.error,
                   mark.trace, mark.group, mark.reason, mark.box)
end

-- Marks the item with an outcome value.
---@param o respool.outcome
function M.apply(queue, item, o)
  local failure = o.error ~= nil and outcome.describe(o.error) or {}
  return M.mark(queue, item, {
    verdict = o.verdict, delay = o.delay, error = failure.text,
    group = o.group or failure.group, box = o.box,
  }, o.error)
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
  local verdict, name = DECISIONS[decision][1], DECISIONS[decision][2]
  if detail ~= nil and name and CHECKS[name](detail) == nil then
    return add_text(mark, ("decide: bad %s for '%s'"):format(name, decision))
  end
  mark.verdict, mark.delay = verdict, nil
  if name and detail ~= nil then mark[name] = detail end
end

local function decide(queue, item, mark, err)
  local ok, decision, detail = call("decide", queue.decide, err, item)
  if not ok then
    add_text(mark, decision)
  elseif DECISIONS[decision] then
    take_decision(mark, decision, detail)
  elseif decision ~= nil then
    add_text(mark, "decide: returned no decision")
  end
end

-- Marks an item whose handler failed with `err`.
---@param trace string?
---@param on_error function?
function M.fail(queue, item, err, trace, on_error)
  local failure = outcome.describe(err)
  local mark = {
    verdict = failure.final and DEAD or RETRY, delay = failure.delay,
    error = failure.text, group = failure.group, trace = trace,
  }
  if queue.decide then decide(queue, item, mark, err) end
  if on_error then
    local ok, problem = call("on_error", on_error, err, item)
    if not ok then add_text(mark, problem) end
  end
  return M.mark(queue, item, mark, err)
end

-- Marks an item whose payload cannot be decoded: a letter with its bytes.
---@param problem string
function M.undecodable(queue, item, problem)
  return M.mark(queue, item, {
    verdict = DEAD, reason = "undecodable", error = problem,
  }, problem)
end

return M
