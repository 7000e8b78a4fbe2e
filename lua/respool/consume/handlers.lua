-- SPDX-License-Identifier: MIT
--
-- Handlers made of handlers: a chain calls one after the other, a fan-out
-- all of them. A fan-out remembers with the item which have accepted it and
-- which have refused it for good, so that a retry calls only the others; the
-- first is kept by processes that end, by death and by replay, the second
-- until the item dies.
--
-- A handler is known by its place: of handler "mail" in a fan-out that is
-- third in a chain, "3.mail". While one runs, the item's third slot is the
-- place of what runs.
--
-- A push that a handler of a fan-out made by item:push is committed with the
-- outcome of the item if that handler accepted it: also when the item is tried
-- again, or dies, since that handler is not called for it again. Pushes of
-- other handlers are forgotten. A chain that is such a handler accepts as a
-- whole; pushes of a chain by itself are committed when the item is done.

local core = require "respool.core"
local batch_state = require "respool.consume.batch_state"
local closing = require "respool.observe.closing"
local compat = require "respool.support.compat"
local handler_memo = require "respool.consume.handler_memo"
local item_pushes = require "respool.consume.item_pushes"
local options = require "respool.support.options"
local outcome = require "respool.support.outcome"
local returned = require "respool.consume.returned"

local batches = core.batch
local NONE, DONE = outcome.NONE, outcome.DONE
local RETRY, SNOOZE, DEAD = outcome.RETRY, outcome.SNOOZE, outcome.DEAD
local RELEASE, DROP, HOLD = outcome.RELEASE, outcome.DROP, outcome.HOLD

local M = {}

---@alias respool.handler fun(payload: any, item: respool.item, ...): ...

local function is_gone(item)
  local batch = item[1]
  return batches.closed(batch)
    or closing.is_immediate(batch_state.queue(batch).store)
end

-- Whether a handler has marked the item by hand as not done.
local function is_marked(item)
  local v = batches.kind(item[1], item[2])
  return v ~= NONE and v ~= DONE
end

local function enter(item, step)
  local outer = item[3]
  item[3] = (outer and outer .. "." or "") .. compat.text(step)
  return outer
end


-- Chains.

local run_chain

-- Goes on to the next unless this one has not done its work.
local function go_on(handlers, i, payload, item, outer, ...)
  item[3] = outer
  if i == #handlers or not outcome.is_done(...) or is_gone(item)
     or is_marked(item) then
    return ...
  end
  return run_chain(handlers, i + 1, payload, item, ...)
end

function run_chain(handlers, i, payload, item, ...)
  local outer = enter(item, i)
  return go_on(handlers, i, payload, item, outer,
               handlers[i](payload, item, ...))
end

-- Each of the `n` arguments; a name that was mistyped is nil.
local function check_handlers(of, list, n)
  for i = 1, math.max(n, 1) do
    options.argument(i, of, list[i], options.callable)
  end
end

-- A handler that calls these in turn, each with the payload, the item and
-- what the one before returned. The first that is not done ends it, and its
-- outcome is the chain's; a retry calls all of them again. Their pushes are
-- committed when the last is done.
---@param ... respool.handler
---@return respool.handler
function M.chain(...)
  local handlers = { ... }
  check_handlers("respool.chain", handlers, select("#", ...))
  return function(payload, item)
    return run_chain(handlers, 1, payload, item)
  end
end


-- The outcome of an item that some handlers have not accepted.

-- A handler's result other than done: its kind and what it says.
---@class respool.problem
---@field kind integer
---@field explicit boolean an outcome, no error
---@field text string? with the handler's name; nil: it says nothing
---@field group string?
---@field delay number?
---@field dlq string?
---@field held boolean? of a snooze, as an outcome's
---@field trace string?

local function problem_of(name, err, explicit, trace)
  local failure = err ~= nil and outcome.describe(err) or {}
  local o = explicit or { kind = failure.final and DEAD or RETRY }
  return {
    kind = o.kind, explicit = explicit ~= nil, trace = trace,
    text = ("%s: %s"):format(name, failure.text or "not accepted"),
    group = o.group or failure.group, delay = o.delay or failure.delay,
    dlq = o.dlq, held = o.held,
  }
end

-- While one handler may still accept, the item goes on: by the heaviest of
-- these, as long as the longest delay says.
local WEIGHT = {
  [DEAD] = 1, [RELEASE] = 2, [SNOOZE] = 3, [HOLD] = 4, [RETRY] = 5,
}

local function add_problem(all, p)
  if WEIGHT[p.kind] > WEIGHT[all.kind] then
    all.kind, all.group = p.kind, p.group
  end
  all.explicit = all.explicit and p.explicit
  if p.delay then all.delay = math.max(all.delay or 0, p.delay) end
  if p.kind == DEAD or p.kind == RETRY or p.kind == HOLD then
    all.text = all.text and ("%s; %s"):format(all.text, p.text) or p.text
  end
  for _, field in ipairs { "group", "dlq", "held", "trace" } do
    all[field] = all[field] or p[field]
  end
end

-- All problems as one: the texts together, else the first that has something
-- to say.
local function sum_up(problems)
  local all = { kind = DEAD, explicit = true }
  for _, p in ipairs(problems) do add_problem(all, p) end
  return all
end

local function tell(err)
  return err.message
end

-- An error for the work to judge, as that of a single handler; `decide` sees
-- it with the texts of all.
local function raise(all)
  compat.rethrow(setmetatable({
    message = all.text, group = all.group, retry_after = all.delay,
    retryable = all.kind ~= DEAD,
  }, { __tostring = tell }), all.trace or "")
end

local function combined_outcome(problems)
  local all = sum_up(problems)
  if all.kind == SNOOZE then
    return (all.held and outcome.hold_item or outcome.snooze)(all.delay)
  end
  if all.kind == HOLD then return outcome.hold(all.delay, all.text) end
  if all.kind == RELEASE then return outcome.release() end
  if not all.explicit then raise(all) end
  if all.kind == DEAD then
    return outcome.dead { error = all.text, group = all.group, dlq = all.dlq }
  end
  return outcome.retry {
    delay = all.delay, error = all.text, group = all.group,
  }
end


-- Fan-outs.

-- Judges one handler: nil when it accepted, with what it returned as a third
-- value, else its problem. To drop the item is to want no more of it, not even
-- what was pushed: nil, true.
local function judge(name, trace, ok, first, second)
  if not ok then return problem_of(name, first, nil, trace) end
  if outcome.is_done(first, second) then return nil, false, first end
  if not outcome.is_outcome(first) then
    return problem_of(name, outcome.error_of("it", first, second))
  end
  if first.kind == DROP then return nil, true end
  return problem_of(name, first.error, first)
end

local function try(entry, payload, item)
  local trace
  local function catch(err)
    trace = compat.traceback()
    return err
  end
  local function results(ok, first, second)
    if not ok and compat.is_interrupt(first) then error(first, 0) end
    return judge(entry.name, trace, ok, first, second)
  end
  return results(compat.xpcall(entry.handler, catch, payload, item,
                               entry.begun))
end

local function accept(item, from)
  local batch, i, place = item[1], item[2], item[3]
  handler_memo.add_accepted(batch, i, place)
  item_pushes.accept(batch, i, from, place)
end

-- Calls the handler of one that is open, at its place. True to go on, with what
-- the handler returned.
local function serve(entry, payload, item, problems)
  local batch, i = item[1], item[2]
  local from = item_pushes.count(batch, i)
  local problem, dropped, result = try(entry, payload, item)
  if is_gone(item) then return false end
  local by_hand = not problem and #problems == 0 and is_marked(item)
  if problem or dropped or by_hand then item_pushes.forget(batch, i, from) end
  if problem then
    table.insert(problems, problem)
    if problem.kind == DEAD then
      handler_memo.add_refused(batch, i, item[3], problem)
    end
  elseif not by_hand then
    accept(item, from)
  end
  return not by_hand, result
end

-- The error of a handler that has refused before.
local function refused_before(refusal)
  return { kind = DEAD, explicit = refusal.explicit, text = refusal.text,
           group = refusal.group, dlq = refusal.dlq }
end

-- Those that have neither accepted nor refused, begun where they can be; the
-- problems of those that have refused; and the results of those that accepted.
local function begin(entries, payload, item)
  local batch, i = item[1], item[2]
  local accepted = handler_memo.accepted_by(batch, i)
  local refused = handler_memo.refused_by(batch, i)
  local open, problems, results = {}, {}, {}
  for _, entry in ipairs(entries) do
    local outer = enter(item, entry.name)
    local place = item[3]
    item[3] = outer
    if refused[place] then
      problems[#problems + 1] = refused_before(refused[place])
    elseif accepted[place] then
      results[entry.name] = returned.decode(accepted[place])
    else
      open[#open + 1] = {
        name = entry.name, handler = entry.handler,
        begun = entry.begin and entry.begin(payload, item),
      }
    end
  end
  return open, problems, results
end

-- Keeps what the handlers returned that have accepted now, with the item that
-- is tried again for others, where its queue keeps results.
local function remember(open, item, fresh)
  if next(fresh) == nil then return end
  local queue = batch_state.queue(item[1])
  local config = queue.handle:config()
  if not config or config.keep_done <= 0 then return end
  for _, entry in ipairs(open) do
    local outer = enter(item, entry.name)
    if fresh[entry.name] ~= nil then
      returned.remember(queue, item, item[3], fresh[entry.name])
    end
    item[3] = outer
  end
end

-- The result of a fan-out that all handlers have accepted: true, or the results
-- of those that returned one, by name.
local function all_of(results, fresh)
  for name, result in pairs(fresh) do results[name] = result end
  return next(results) ~= nil and results or true
end

local function call_all(entries, payload, item)
  local open, before, results = begin(entries, payload, item)
  local problems, fresh = {}, {}
  for _, entry in ipairs(open) do
    local outer = enter(item, entry.name)
    local more, result = serve(entry, payload, item, problems)
    item[3] = outer
    if not more then return end
    if result ~= true then fresh[entry.name] = result end
  end
  for _, problem in ipairs(before) do problems[#problems + 1] = problem end
  if #problems == 0 then return all_of(results, fresh) end
  remember(open, item, fresh)
  return combined_outcome(problems)
end

-- Names with their handlers, in order: of a list its numbers, else sorted.
local function entries_of(handlers)
  local entries = {}
  for name, handler in pairs(handlers) do
    if type(name) ~= "string" and type(name) ~= "number"
       or type(handler) ~= "function" then
      compat.misuse("respool.fan_out: handlers must be functions by name")
    end
    entries[#entries + 1] = { name = tostring(name), key = name,
                              handler = handler }
  end
  local is_list = #handlers == #entries
  table.sort(entries, function(a, b)
    if is_list then return a.key < b.key end
    return a.name < b.name
  end)
  return entries
end

local function check_names(entries)
  local names = {}
  for i, entry in ipairs(entries) do
    if names[entry.name] then
      compat.misuse(("respool.fan_out: two handlers are named '%s'"):format(
        entry.name))
    end
    names[i], names[entry.name] = entry.name, true
  end
  if #table.concat(names, ",") > handler_memo.MOST / 2 then
    compat.misuse("respool.fan_out: the names of handlers are too long")
  end
end

-- A handler that calls all of these, by name or as a list. The item is done
-- when all have accepted it; a retry calls only those that have neither
-- accepted nor refused it for good. A refusal keeps it from no other handler:
-- the item is dead when all have accepted or refused, and at the queue's
-- limits; the error names those that failed. The item's outcome is given by
-- their results and errors alone: a mark made by hand ends the fan-out. The
-- pushes of a handler are committed with the item's next outcome, whatever that
-- is, if the handler accepted the item, and otherwise forgotten; one whose push
-- is refused has not accepted. It returns what its handlers returned, by name,
-- where one returned a result: of earlier deliveries, too, as far as 2 KiB have
-- room for these.
---@param handlers table<string|integer, respool.handler>
---@return respool.handler
function M.fan_out(handlers)
  options.argument(1, "respool.fan_out", handlers, options.table)
  local entries = entries_of(handlers)
  if #entries == 0 then
    options.bad_argument(1, "respool.fan_out", "a table of handlers", {})
  end
  return M.of_entries(entries)
end

---@class respool.fan_out_entry
---@field name string
---@field handler fun(payload: any, item: respool.item, begun: any): ...
---@field begin fun(payload: any, item: respool.item): any called of all that
--- are open, before the first handler

-- The same of entries, whose order is that of their calls.
---@param entries respool.fan_out_entry[]
---@return respool.handler
function M.of_entries(entries)
  check_names(entries)
  return function(payload, item)
    return call_all(entries, payload, item)
  end
end

return M
