-- SPDX-License-Identifier: MIT
--
-- Traces: the tracer of a store hears of the start and of the end of each push,
-- take, handler and settle of its process. Its functions are hooks: they are
-- called outside of any transaction, and an error that one raises goes to
-- on_error. A store without a tracer calls nothing of this file.
--
-- Headers that the tracer gives to a push are kept with the item through
-- retries, death, replay, export, import and move, so that who handles it can
-- go on with the trace of who pushed it.

local core = require "respool.core"
local codec = require "respool.support.codec"
local compat = require "respool.support.compat"
local hooks = require "respool.observe.hooks"
local outcome = require "respool.support.outcome"

local batches = core.batch

local M = {}

---@alias respool.operation "push"|"take"|"handle"|"settle"

---@class respool.trace_event
---@field operation respool.operation
---@field queue string
---@field at number seconds since 1970, by the clock of the store
---@field items integer? pushed, handled or settled; a take does not know yet
---@field parent any the span of the handler that does this
---@field headers any of the push, or of the item that is handled
---@field item respool.item? that is handled
---@field batch respool.batch? that is handled or settled
---@field carried boolean? the push is committed later, by a settle or a
--- transaction

---@class respool.trace_result
---@field error string? why it failed
---@field code string? of the store, where that refused it
---@field id integer? of the item that was pushed, the first of several
---@field items integer? that were taken
---@field batch respool.batch? that was taken, if there is something in it
---@field outcome string? of the item that was handled, such as "done", "retry"
---@field group string? of the error

-- `start` returns a span, or nil for none, and headers that carry its context:
-- those of a push are added to its items, those of a handler to what
-- respool.http sends. `finish` gets the span. `tick` is called by work now and
-- then; `polled` is true where its caller polls the requests of respool.http.
-- respool.work_processes calls `close` at the end of a worker; one that is
-- asked to stop tells it how many seconds it may take.
---@class respool.tracer
---@field start fun(event: respool.trace_event): any, table<string, string>?
---@field finish fun(span: any, result: respool.trace_result)
---@field tick fun(polled: boolean)?
---@field close fun(seconds: number?)?

-- Something that was started.
---@class respool.trace
---@field span any
---@field headers table<string, string>?
---@field outer respool.trace? the handler that this handler runs in
---@field batch respool.batch?
---@field error string? of the outcome that was given last
---@field group string?

local function is_function(value)
  return type(value) == "function"
end

-- The kind of the option `tracer`.
---@param value any
---@return respool.tracer?, string?
function M.kind(value)
  if type(value) == "table" and is_function(value.start)
     and is_function(value.finish)
     and (value.tick == nil or is_function(value.tick)) then
    return value
  end
  return nil, "a table with functions start and finish"
end

-- The task that runs, as a key of store.traces.
local function runner()
  return compat.task() or "main"
end


-- Start and finish.

-- The headers that a tracer has returned: texts by name, or none.
local function headers_of(store, given)
  if given == nil then return nil end
  local fine = type(given) == "table"
  for name, value in pairs(fine and given or {}) do
    fine = fine and type(name) == "string" and type(value) == "string"
  end
  if fine then return given end
  hooks.report(store, "tracer", "its headers are not a table of strings")
end

-- Tells the tracer of something that begins. A store that is closed begins
-- nothing: nil.
---@param store respool.store
---@param event respool.trace_event without `at` and `parent`
---@return respool.trace?
function M.start(store, event)
  if store.handle:closed() then return nil end
  local within = store.traces[runner()]
  event.at, event.parent = store.handle:now(), within and within.span
  local span, headers = hooks.call(store, "tracer", store.tracer.start, event)
  return {
    span = span, batch = event.batch or event.item and event.item[1],
    headers = headers_of(store, headers),
  }
end

-- Tells the tracer of its end.
---@param store respool.store
---@param trace respool.trace?
---@param result respool.trace_result
function M.finish(store, trace, result)
  if not trace or trace.span == nil then return end
  hooks.call(store, "tracer", store.tracer.finish, trace.span, result)
end

-- Lets the tracer do what it does now and then.
---@param store respool.store
---@param polled boolean
function M.tick(store, polled)
  hooks.call(store, "tracer", store.tracer.tick, polled)
end


-- Handlers. Spans made in the task of a handler have its span as parent.

---@param store respool.store
---@param event respool.trace_event
---@return respool.trace?
function M.enter(store, event)
  event.operation = "handle"
  local trace = M.start(store, event)
  if not trace then return nil end
  trace.outer = store.traces[runner()]
  store.traces[runner()] = trace
  return trace
end

-- Notes the error of an outcome that is given in a handler.
---@param store respool.store
---@param item respool.item
---@param mark respool.mark
function M.note(store, item, mark)
  local trace = store.traces[runner()]
  if not trace or trace.batch ~= item[1] then return end
  trace.error, trace.group = mark.error, mark.group
end

local OUTCOMES = {
  [outcome.DONE] = "done", [outcome.RETRY] = "retry", [outcome.DEAD] = "dead",
  [outcome.RELEASE] = "release", [outcome.SNOOZE] = "snooze",
  [outcome.DROP] = "drop", [outcome.HOLD] = "hold",
}

-- The outcome of an item whose handler has ended, `well` or not.
local function outcome_of(item, well)
  if batches.closed(item[1]) then return nil end
  local kind = batches.kind(item[1], item[2])
  return OUTCOMES[kind] or well and "done" or nil
end

-- Ends a handler, of an item or of a batch.
---@param store respool.store
---@param trace respool.trace?
---@param item respool.item?
---@param well boolean
function M.leave(store, trace, item, well)
  if not trace then return end
  store.traces[runner()] = trace.outer
  M.finish(store, trace, {
    outcome = item and outcome_of(item, well), error = trace.error,
    group = trace.group,
  })
end

-- The headers that carry the context of the handler that runs.
---@param store respool.store
---@return table<string, string>?
function M.headers(store)
  local trace = store.traces and store.traces[runner()]
  return trace and trace.headers
end


-- Pushes.

-- The options of a push with more headers; those it has stay.
local function with_headers(o, given, more)
  if not more or given ~= nil and type(given) ~= "table"
     or type(given) == "table" and #given > 0 then
    return o
  end
  local same, headers = {}, {}
  for name, value in pairs(o) do same[name] = value end
  for name, value in pairs(more) do headers[name] = value end
  for name, value in pairs(given or {}) do headers[name] = value end
  same.headers = core.cbor.encode(headers)
  return same
end

local function start_push(queue, n, o, carried)
  local given = codec.headers(o.headers)
  local trace = M.start(queue.store, {
    operation = "push", queue = queue.name, items = n, headers = given,
    carried = carried,
  })
  return trace, with_headers(o, given, trace and trace.headers)
end

-- Calls send(queue, what, o), which pushes `n` items with these options: its
-- results.
---@param queue respool.queue
---@param n integer
---@param o table as push.read() returns them
---@param send fun(queue: respool.queue, what: any, o: table): ...
---@param what any
function M.push(queue, n, o, send, what)
  local store = queue.store
  local trace, given = start_push(queue, n, o)
  local function finish(id, message, code, ...)
    local failed = id == nil
    M.finish(store, trace, {
      id = type(id) == "number" and id or nil,
      error = failed and message or nil, code = failed and code or nil,
    })
    hooks.drain(store, code) -- it may have closed the store
    return id, message, code, ...
  end
  return finish(compat.guard(function()
    return send(queue, what, given)
  end, nil, function()
    M.finish(store, trace, { error = "the push was refused" })
  end))
end

-- The options of a push that a settle or a transaction will commit.
---@param queue respool.queue
---@param n integer
---@param o table as push.read() returns them
---@return table
function M.carried(queue, n, o)
  local store = queue.store
  if not store.tracer then return o end
  local trace, given = start_push(queue, n, o, true)
  M.finish(store, trace, {})
  return given
end


-- Takes and settles.

-- Calls take(queue, o, wait): its results.
---@param take fun(queue: respool.queue, o: table, wait: number?): ...
---@param queue respool.queue
---@return respool.batch?, string?, string?
function M.take(take, queue, o, wait)
  local store = queue.store
  if not store.tracer then return take(queue, o, wait) end
  local trace = M.start(store, { operation = "take", queue = queue.name })
  local batch, message, code = take(queue, o, wait)
  M.took(store, trace, batch, message, code)
  return batch, message, code
end

-- Ends a take.
---@param store respool.store
---@param trace respool.trace?
---@param batch respool.batch?
function M.took(store, trace, batch, message, code)
  local open = batch and not batches.closed(batch) and #batch > 0
  M.finish(store, trace, {
    items = open and #batch or 0, batch = open and batch or nil,
    error = not batch and message or nil, code = not batch and code or nil,
  })
end

-- How many items of a batch are marked, of those that are not settled.
local function marked(batch)
  local n = 0
  for i = 1, #batch do
    if not batches.settled(batch, i) and batches.kind(batch, i) ~= 0 then
      n = n + 1
    end
  end
  return n
end

-- Begins the settle of a batch.
---@param queue respool.queue
---@param batch respool.batch
---@return respool.trace?
function M.settle(queue, batch)
  return M.start(queue.store, {
    operation = "settle", queue = queue.name, items = marked(batch),
    batch = batch,
  })
end

return M
