-- SPDX-License-Identifier: MIT
--
-- Serving a batch: its handler is called for each item, for each group of
-- merged items, or for the batch, and the outcome is marked. The item that a
-- handler is at is not handled yet: when the store is closed or the program
-- interrupted by then, it is released.

local batch_of = require "respool.consume.batch"
local batch_state = require "respool.consume.batch_state"
local closing = require "respool.observe.closing"
local codec = require "respool.support.codec"
local compat = require "respool.support.compat"
local core = require "respool.core"
local decide = require "respool.consume.decide"
local flow = require "respool.consume.flow"
local held_by = require "respool.consume.held"
local item = require "respool.consume.item"
local merge_batch = require "respool.consume.merge_batch"
local outcome = require "respool.support.outcome"
local returned = require "respool.consume.returned"
local timing = require "respool.support.timing"
local tracing = require "respool.observe.tracing"

local batches = core.batch
local state_of, closed, new_item = batch_state.of, batches.closed, item.new
local deliver, observe = batches.deliver, batches.observe
local xpcall = compat.xpcall

local M = {}

-- Microseconds: of a handler, beside which a look into the store is cheap; and
-- between looks whether others ask the work to stop, while items take less.
local LONG, LOOK = 20000, 1000

-- A traceback as far as the handler goes: what calls it is always the same.
local function trim(trace)
  return (trace:gsub("^%s+", "")
    :gsub("\n[^\n]*%[C%]: in function '[^'\n]*xpcall'.*", ""))
end

-- The message handler keeps the traceback of the error it is called for.
function M.catcher(loop)
  return function(err)
    loop.trace = trim(compat.traceback())
    return err
  end
end

-- The clocks that time handlers, in microseconds: a manual clock gives its own
-- time, else observe() looks at the end for itself. The third value is the time
-- between looks whether to stop: by a manual clock none passes by itself.
function M.clocks(store)
  if not store.manual then return core.mono, nil, LOOK end
  local handle = store.handle
  local function manual()
    return handle:closed() and 0 or handle:now() * 1e6
  end
  return manual, manual, 0
end

-- Whether the work is to end before the next item.
local function is_stopped(loop)
  local queue = loop.queue
  return timing.is_stopped(queue, loop.stops)
    or loop.ends and queue.store.handle:now() >= loop.ends
end

M.is_stopped = is_stopped

-- The result of a handler's call: true when it succeeded, with what it returned
-- as a fifth value, else an outcome, or an error and its trace.
local function result_of(loop, ok, first, second)
  if not ok then
    if compat.is_interrupt(first) then error(first, 0) end
    return false, nil, first, loop.trace
  elseif outcome.is_done(first, second) then
    return true, nil, nil, nil, first
  elseif outcome.is_outcome(first) then
    return false, first
  end
  return false, nil, outcome.error_of("the handler", first, second)
end

-- Marks an item whose handler did not return normally, or returned a result
-- that is kept. True when it did return so.
local function record_result(loop, it, ok, first, second)
  local well, explicit, err, trace = result_of(loop, ok, first, second)
  if closed(it[1]) then return well end
  if well then
    if loop.keeps then returned.keep(loop.queue, it, first) end
    return true
  end
  if not explicit then
    decide.fail(loop.queue, it, err, trace, loop.o.on_error)
  elseif not batches.settled(it[1], it[2]) then
    flow.note(loop.row, explicit)
    decide.apply(loop.queue, it, explicit)
  end
  return false
end

-- Notes how long a handler took with `n` items since loop.started. The end of
-- one call is the start of the next: to ask the clock again for every item
-- would cost as much as to deliver it.
local function note_time(loop, batch, n)
  local began = loop.started
  loop.started = observe(batch, n, began, loop.stop and loop.stop())
  loop.took = loop.started - began
end

local function call_untraced(loop, batch, it, payload, n)
  local ok, a, b = xpcall(loop.handler, loop.catch, payload, it)
  note_time(loop, batch, n)
  if ok and a == nil and b == nil then return true end -- as most do
  local well = record_result(loop, it, ok, a, b)
  loop.started = loop.start()
  return well
end

-- Calls serve(loop, batch, ...) as a handler that the tracer hears of: true
-- when it went well.
local function traced(loop, event, serve, batch, ...)
  local store = loop.queue.store
  event.queue = loop.queue.name
  loop.handling = tracing.enter(store, event)
  local well = serve(loop, batch, ...)
  tracing.leave(store, loop.handling, event.item, well)
  loop.handling = nil
  return well
end

local function call_traced(loop, batch, it, payload, n)
  return traced(loop, { items = n, item = it, headers = it.headers },
                call_untraced, batch, it, payload, n)
end

-- The function call(loop, batch, item, payload, n) that calls the handler for
-- `n` items that are one: true when it went well.
function M.caller(tracer)
  return tracer and call_traced or call_untraced
end

-- Serves item `i`. Returns its number, and whether its handler went well.
local function serve_item(loop, batch, i)
  local payload, problem, reason = loop.read(batch, i)
  local it = new_item(batch, i, payload)
  if loop.queue.stops ~= loop.stops
     and closing.is_immediate(loop.queue.store) then
    return i, false -- by a codec
  elseif payload == nil then
    decide.undecodable(loop.queue, it, problem, reason)
    return i, false
  end
  return i, loop.call(loop, batch, it, payload, 1)
end

-- In strict order nothing may follow an item that is not done.
local function holds_up(batch, i, well)
  local kind = batches.kind(batch, i)
  return not (well and (kind == outcome.NONE or kind == outcome.DONE))
end

-- Whether the store is closed, or is to be closed with item `i` released.
local function is_cut_off(loop, batch, i)
  if closed(batch) then return true end
  if not closing.is_immediate(loop.queue.store) then return false end
  if not batches.settled(batch, i) then
    decide.apply(loop.queue, new_item(batch, i), outcome.release())
  end
  return true
end
M.is_cut_off = is_cut_off

-- Notes that item `i` was served, and went well or not; false when no other is
-- to be.
local function note_served(loop, batch, i, well)
  local queue, row = loop.queue, loop.row
  if queue.stops ~= loop.stops and is_cut_off(loop, batch, i) then
    return false
  end
  state_of(batch).handled = i
  loop.counts.items = loop.counts.items + 1
  if flow.has_news(row) and flow.breaks_off(row, batch, i) then return false end
  if not loop.strict or not holds_up(batch, i, well) then return true end
  flow.put_off(row, batch, i)
  return not loop.ordered
end

-- The type of the items that a handler is given; nil where it has no parameter
-- for one, so that none is made for it.
function M.item_type(handler)
  local info = debug.getinfo(handler, "u")
  if info.isvararg ~= false or info.nparams > 1 then return item.type end
end

-- When to look between two items, at the latest, whether another may follow.
local function next_look(loop)
  local row, cancels = loop.row, loop.queue.store.cancels
  local always = loop.strict or row.in_row or row.off or cancels ~= loop.cancels
  return always and loop.started or loop.started + loop.look
end

-- Serves the items from `i` to `n`, until one does not go well or there may be
-- something to look for. Returns the last one, which note_served() is to hear
-- of, and whether it went well. What lies within the loop is the cost of every
-- item beside its handler.
local function serve_many(loop, batch, i, n)
  local handler, catch, stop = loop.handler, loop.catch, loop.stop
  local item_type = loop.item_type
  local store, state, counts = loop.queue.store, state_of(batch), loop.counts
  local news, at_once = store.news, codec.at_once
  local began, look_at, well = loop.started, next_look(loop), true
  while true do
    local payload, it = deliver(batch, i, at_once, item_type)
    if payload == nil then
      loop.started = began
      return serve_item(loop, batch, i)
    end
    local ok, a, b = xpcall(handler, catch, payload, it)
    local ended = observe(batch, 1, began, stop and stop())
    local took = ended - began
    if not ok or a ~= nil or b ~= nil then
      it = it or new_item(batch, i, payload)
      well, ended = record_result(loop, it, ok, a, b), loop.start()
    end
    began = ended
    if i == n or not well or began >= look_at or store.news ~= news then
      loop.started, loop.took = began, took
      return i, well
    end
    state.handled, counts.items = i, counts.items + 1
    i = i + 1
  end
end

-- Calls the handler for one item after the other. An item that is not begun may
-- have been cancelled while the one before was in hand: the store is asked
-- where something was cancelled here, or where a look costs little beside what
-- that one took.
function M.items(loop, batch)
  local i, n, row, store = 1, #batch, loop.row, loop.queue.store
  local serve = loop.plain and serve_many or serve_item
  loop.started, loop.took, loop.cancels = loop.start(), 0, store.cancels
  while i <= n do
    if is_stopped(loop) then return end
    if row.off and flow.is_off(row, batch, i) then
      batches.mark(batch, i, outcome.RELEASE)
      state_of(batch).handled = i
    else
      local well = true
      local ask = store.cancels ~= loop.cancels or loop.took >= LONG
      if not (ask and held_by.is_gone(batch, i)) then
        i, well = serve(loop, batch, i, n)
      end
      if not note_served(loop, batch, i, well) then return end
    end
    i = i + 1
  end
end

-- The groups that the items of a batch were merged into, and how many items
-- are in none.
local function merged(loop, batch)
  return merge_batch.gather(batch, loop.merge, loop.read, function(it, err)
    decide.fail(loop.queue, it, err, nil, loop.o.on_error)
  end)
end

-- Serves a group; false when the work is cut off. A group that succeeded is
-- marked, as its items lie anywhere in the batch.
local function serve_group(loop, batch, group)
  local n = 1 + #batch_state.followers(batch, group.i)
  local it = new_item(batch, group.i, group.payload)
  local well = loop.call(loop, batch, it, group.payload, n)
  if is_cut_off(loop, batch, group.i) then return false end
  if well and batches.kind(batch, group.i) == outcome.NONE then it:done() end
  loop.counts.items = loop.counts.items + n
  return true
end

-- Calls the handler for each group of items that are merged.
function M.groups(loop, batch)
  local groups, refused = merged(loop, batch)
  loop.counts.items = loop.counts.items + refused
  if closing.is_immediate(loop.queue.store) then -- by key, with or upgrade
    batches.mark_all(batch, outcome.RELEASE)
    return
  end
  loop.started = loop.start()
  for _, group in ipairs(groups) do
    if is_stopped(loop) then return end
    if not serve_group(loop, batch, group)
       or flow.breaks_off(loop.row, batch, group.i) then
      return
    end
  end
end

local function fail_rest(loop, batch, err, trace)
  for i = 1, #batch do
    if closing.is_immediate(loop.queue.store) then break end -- by a hook
    if batches.kind(batch, i) == outcome.NONE then
      decide.fail(loop.queue, new_item(batch, i), err, trace, loop.o.on_error)
    end
  end
end

-- Calls the handler for a batch. True when it went well.
local function call_for_batch(loop, batch)
  local n = #batch
  loop.started = loop.start()
  local ok, a, b = xpcall(loop.handler, loop.catch, batch)
  note_time(loop, batch, n)
  local well, explicit, err, trace, results = result_of(loop, ok, a, b)
  loop.counts.items = loop.counts.items + n
  if closed(batch) or closing.is_immediate(loop.queue.store) then
    return well
  elseif well then
    state_of(batch).handled = n
    if loop.keeps then returned.keep_all(loop.queue, batch, results) end
  elseif explicit then
    batch_of.mark_rest(batch, explicit)
  else
    fail_rest(loop, batch, err, trace)
  end
  if closing.is_immediate(loop.queue.store) then batch:release() end
  return well
end

-- Delivers the batch as a whole; the handler's call decides for the items that
-- the handler has not marked.
function M.batch(loop, batch)
  if loop.merge then merged(loop, batch) end
  if loop.tracer then
    traced(loop, { items = #batch, batch = batch }, call_for_batch, batch)
  else
    call_for_batch(loop, batch)
  end
end

return M
