-- SPDX-License-Identifier: MIT
--
-- What becomes of an item that failed: the queue's `decide` is asked first,
-- its policy otherwise, and `dead_letter` names the box of what dies. When
-- one of these functions raises, the policy holds and the history tells.

local core = require "respool.core"
local compat = require "respool.compat"
local hooks = require "respool.hooks"
local outcome = require "respool.outcome"
local options = require "respool.options"

local lots = core.lot
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


-- Boxes.

local function is_last_attempt(queue, item)
  local config = queue.handle:config()
  return config and config.on_exhausted == 0
    and item.attempts + 1 >= config.max_attempts
end

local function add_text(mark, text)
  mark.error = mark.error and ("%s; %s"):format(mark.error, text) or text
end

-- Why an item with this mark will die; nil when it will not.
local function reason_of(queue, item, mark)
  if mark.verdict == DEAD then return mark.reason or "rejected" end
  if mark.verdict == RETRY and is_last_attempt(queue, item) then
    return "exhausted"
  end
end

-- The box that `dead_letter` names.
local function route(queue, item, mark, err)
  local ok, box = call(queue, "dead_letter", queue.route, item, err)
  if ok and box ~= nil and not options.name(box) then
    ok, box = false, "dead_letter: returned no name of a box"
  end
  if ok then return box end
  add_text(mark, box)
end

-- Sees to what is asked, and told, only of an item that will die.
local function foresee(queue, item, mark, err)
  local reason = reason_of(queue, item, mark)
  if not reason then return end
  if queue.route and not mark.box then
    mark.box = route(queue, item, mark, err)
  end
  hooks.note_death(queue, item, {
    item = item, verdict = mark.verdict, reason = reason, group = mark.group,
    error = mark.error, box = mark.box,
  })
end

local function place_one(queue, item, mark, err, place)
  if queue.route or queue.on_dead then foresee(queue, item, mark, err) end
  return place(item[1], item[2], mark.verdict, mark.delay, mark.error,
               mark.trace, mark.group, mark.reason, mark.box, item[3])
end

-- Items that were merged into this one share what is said of it.
local function place_followers(queue, item, mark, err, place)
  local followers = lots.beside(item[1]).followers
  for _, other in ipairs(followers and followers[item[2]] or {}) do
    local same = {}
    for name, value in pairs(mark) do same[name] = value end
    other[3] = item[3]
    place_one(queue, other, same, err, place)
  end
end

-- Marks the item. `mark` has verdict, delay, error (text), trace, group,
-- reason, box; `err` is the error as the handler gave it. `place` marks it
-- elsewhere than in its lot. What the item is to remember goes along.
---@param place fun(lot: userdata, i: integer, ...): any
---@return any, string?, string?
function M.place(queue, item, mark, err, place)
  place_followers(queue, item, mark, err, place)
  return place_one(queue, item, mark, err, place)
end

---@return true?, string?, string?
function M.mark(queue, item, mark, err)
  return M.place(queue, item, mark, err, lots.mark)
end

-- Marks the item with an outcome value.
---@param o respool.outcome
---@param place function? as in place()
function M.apply(queue, item, o, place)
  local failure = o.error ~= nil and outcome.describe(o.error) or {}
  return M.place(queue, item, {
    verdict = o.verdict, delay = o.delay, error = failure.text,
    group = o.group or failure.group, box = o.box,
  }, o.error, place or lots.mark)
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
  local ok, decision, detail = call(queue, "decide", queue.decide, err, item)
  if not ok then
    add_text(mark, decision)
  elseif DECISIONS[decision] then
    take_decision(mark, decision, detail)
  elseif decision ~= nil then
    add_text(mark, "decide: returned no decision")
  end
end

-- Marks an item whose handler failed with `err`. One that a transaction of
-- the handler has settled stays so; the failure is told.
---@param trace string?
---@param on_error function?
function M.fail(queue, item, err, trace, on_error)
  local failure = outcome.describe(err)
  local mark = {
    verdict = failure.final and DEAD or RETRY, delay = failure.delay,
    error = failure.text, group = failure.group, trace = trace,
  }
  hooks.log(queue.store, "info", "a handler failed",
            { queue = queue.name, id = item.id, error = failure.text })
  hooks.call(queue.store, "on_handler_error", queue.on_handler_error, err,
             item)
  if queue.decide then decide(queue, item, mark, err) end
  if on_error then
    local ok, problem = call(queue, "on_error", on_error, err, item)
    if not ok then add_text(mark, problem) end
  end
  if lots.settled(item[1], item[2]) then return true end
  return M.mark(queue, item, mark, err)
end

-- Marks an item whose payload cannot be had: a letter with its bytes.
---@param problem string
---@param reason string? "undecodable"
function M.undecodable(queue, item, problem, reason)
  return M.mark(queue, item, {
    verdict = DEAD, reason = reason or "undecodable", error = problem,
  }, problem)
end

return M
