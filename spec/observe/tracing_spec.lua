-- SPDX-License-Identifier: MIT
--
-- Tracers: told of pushes, takes, handlers and settles, and of their end.

local helper = require "spec.helper"
local respool = require "respool"
local tracing = require "respool.observe.tracing"
local transfer = require "spec.helper.transfer"

local EMPTY = { stop_when_empty = true }

-- A tracer that keeps what it hears: "push+", "push-" for start and end. The
-- span is the event, with its result; `headers` are returned beside it.
local function recorder(headers)
  local tracer = { heard = {}, spans = {} }
  function tracer.start(event)
    table.insert(tracer.heard, event.operation .. "+")
    table.insert(tracer.spans, event)
    return event, headers
  end
  function tracer.finish(span, result)
    table.insert(tracer.heard, span.operation .. "-")
    span.result = result
  end
  -- Those of an operation; takes of nothing are left out.
  function tracer.of(operation)
    local list = {}
    for _, span in ipairs(tracer.spans) do
      local idle = operation == "take" and span.result
        and span.result.items == 0
      if span.operation == operation and not idle then
        list[#list + 1] = span
      end
    end
    return list
  end
  return tracer
end

local tracer, store, q, errors

local function open(given, options)
  errors = {}
  tracer = given
  store = assert(helper.open(helper.location(), {
    clock = "manual", tracer = tracer, log = false,
    on_error = function(err) table.insert(errors, err) end,
  }))
  q = assert(store:queue("orders", options))
end

describe("A tracer", function()
  it("hears of start and end of each verb, in their order", function()
    open(recorder())
    q:push "a"
    local batch = q:take()
    batch:done()
    batch:settle()
    assert.same({ "push+", "push-", "take+", "take-", "settle+", "settle-" },
                tracer.heard)
    local push, take, settle = tracer.spans[1], tracer.spans[2],
                               tracer.spans[3]
    assert.same({ "orders", 1, 1 }, { push.queue, push.items, push.result.id })
    assert.equal(store:now(), push.at)
    assert.same({ 1, batch }, { take.result.items, take.result.batch })
    assert.same({ 1, batch }, { settle.items, settle.batch })
    assert.is_nil(settle.result.error)
  end)

  it("hears of each handler, between take and settle", function()
    open(recorder())
    q:push_many { "a", "b" }
    local heard
    q:work(function() heard = table.concat(tracer.heard, " ") end,
           { stop_when_empty = true, batch = 2 })
    assert.equal("push+ push- take+ take- handle+ handle- handle+", heard)
    local handles = tracer.of "handle"
    assert.equal(2, #handles)
    assert.same({ 1, "done" },
                { handles[1].items, handles[1].result.outcome })
    assert.equal(2, tracer.of "settle"[1].items)
  end)

  it("hears what became of an item, and why", function()
    open(recorder(), { max_attempts = 2 })
    q:push "a"
    q:work(function(_, item)
      if item.attempts == 0 then
        return respool.retry { delay = 0, error = "later", group = "net" }
      end
      error({ message = "never", group = "odd" })
    end, EMPTY)
    local handles = tracer.of "handle"
    assert.same({ outcome = "retry", error = "later", group = "net" },
                handles[1].result)
    assert.same({ outcome = "retry", error = "never", group = "odd" },
                handles[2].result)
    for _, how in ipairs { "dead", "drop", "release", "snooze" } do
      open(recorder())
      q:push "a"
      q:work(function()
        return respool[how](how == "snooze" and 1 or nil)
      end, { limit = 1 })
      assert.equal(how, tracer.of "handle"[1].result.outcome)
    end
  end)

  it("hears of a batch that is handled as one", function()
    open(recorder())
    q:push_many { "a", "b" }
    q:work_batches(function(batch) batch:item(1):done() end,
                   { stop_when_empty = true, batch = 2 })
    local handle = tracer.of "handle"[1]
    assert.equal(2, handle.items)
    assert.is_truthy(handle.batch)
    assert.is_nil(handle.result.outcome)
    q:push "c"
    q:work_batches(function() error("no", 0) end, { limit = 1 })
    assert.equal("no", tracer.of "handle"[2].result.error)
  end)

  it("hears why a push is refused", function()
    open(recorder(), { max_items = 1, validate = function(payload)
      return payload ~= "bad"
    end })
    q:push "a"
    q:push "b"
    pcall(q.push, q, "bad")
    local pushes = tracer.of "push"
    assert.equal("FULL", pushes[2].result.code)
    assert.is_nil(pushes[2].result.id)
    assert.is_string(pushes[3].result.error)
  end)

  it("knows the handler in which something happens", function()
    open(recorder())
    local more = store:queue "more"
    q:push "a"
    q:work(function(_, item)
      more:push "b"
      item:push(more, "c")
      store:transaction(function(tx) tx:push_many(more, { "d", "e" }) end)
    end, EMPTY)
    more:push "f"
    local handle, pushes = tracer.of "handle"[1], tracer.of "push"
    assert.equal(5, #pushes)
    for i = 2, 4 do assert.equal(handle, pushes[i].parent) end
    assert.is_nil(pushes[5].parent)
    assert.same({ nil, true, true },
                { pushes[2].carried, pushes[3].carried, pushes[4].carried })
    assert.equal(2, pushes[4].items)
  end)

  it("hears of settles by a transaction", function()
    open(recorder())
    q:push_many { "a", "b" }
    local batch = q:take { limit = 2 }
    store:transaction(function(tx) tx:done(batch:item(1)) end)
    assert.equal(1, #tracer.of "settle")
    assert.equal(1, tracer.of "settle"[1].items)
    batch:close()
  end)

  it("hears of pushes to a buffer", function()
    open(recorder { traceparent = "here" }, { buffer = {} })
    assert.is_true(q:push "a")
    q:flush()
    assert.same({ "push+", "push-" }, tracer.heard)
    assert.equal("here", q:peek()[1].headers.traceparent)
  end)

  it("hears of no end of what it gave no span", function()
    open { start = function() end, finish = function() error "called" end }
    q:push "a"
    assert.equal(1, q:work(function() end, EMPTY).done)
    assert.same({}, errors)
  end)

  it("harms nothing when it raises, and on_error is told", function()
    open { start = function() error("oh", 0) end, finish = function() end }
    assert.equal(1, q:push "a")
    assert.same({ { message = "oh", where = "tracer" } }, errors)
    assert.equal(1, q:work(function() end, EMPTY).done)
    open { start = function() return 1 end,
           finish = function() error("end", 0) end,
           tick = function() error("tick", 0) end }
    assert.equal(1, q:push "a")
    assert.equal(1, q:work(function() end, EMPTY).done)
    assert.equal("end", errors[1].message)
    local ticked = false
    for _, err in ipairs(errors) do ticked = ticked or err.message == "tick" end
    assert.is_true(ticked)
  end)

  -- They failed the push.
  it("harms nothing by headers that are none", function()
    for _, headers in ipairs { { print }, { a = 1 }, { a = print }, "a" } do
      open { start = function() return 1, headers end, finish = function() end }
      assert.equal(1, q:push "a")
      assert.is_nil(q:peek()[1].headers)
      assert.same({ message = "its headers are not a table of strings",
                    where = "tracer" }, errors[1])
    end
  end)

  -- After a push nobody closed it.
  it("may close the store", function()
    for _, operation in ipairs { "push", "take", "handle", "settle" } do
      for _, at_end in ipairs { false, true } do
        open {
          start = function(event)
            if event.operation == operation and not at_end then
              store:close()
            end
            return event.operation
          end,
          finish = function(span)
            if span == operation and at_end then store:close() end
          end,
        }
        assert.equal(1, q:push "a")
        if operation ~= "push" then q:work(function() end, EMPTY) end
        assert.is_true(store.handle:closed(), operation)
        assert.same({}, errors)
      end
    end
  end)

  it("hears nothing of a store that has none", function()
    local kept = {}
    for name, value in pairs(tracing) do kept[name] = value end
    finally(function()
      for name, value in pairs(kept) do tracing[name] = value end
    end)
    for _, name in ipairs { "start", "finish", "enter", "push", "tick" } do
      tracing[name] = function() error(name .. " is called") end
    end
    open(nil)
    q:push "a"
    assert.equal(1, q:work(function(_, item) item:push(q, "b") end,
                           { limit = 1 }).done)
    assert.equal(1, #q:take())
  end)

  it("needs its two functions", function()
    for _, value in ipairs { {}, 1, { start = print },
                             { start = print, finish = 1 },
                             { start = print, finish = print, tick = 1 } } do
      assert.error_matches(function()
        respool.open(helper.dir() .. "/store", { tracer = value })
      end, "option 'tracer' must be a table with functions start and finish")
    end
  end)
end)

describe("Headers that a tracer gives", function()
  it("are those of the pushed items; the user's own stay", function()
    open(recorder { traceparent = "its", tracestate = "s" })
    q:push "a"
    q:push("b", { headers = { traceparent = "mine", x = 1 } })
    q:push_many({ "c", "d" })
    local items = q:peek(4)
    local function headers(i) return items[i].headers end
    assert.same({ traceparent = "its", tracestate = "s" }, headers(1))
    assert.same({ traceparent = "mine", tracestate = "s", x = 1 }, headers(2))
    assert.same(headers(1), headers(3))
    assert.same(headers(1), headers(4))
  end)

  it("leave headers alone that are a list", function()
    open(recorder { traceparent = "its" })
    q:push("a", { headers = { 1, 2 } })
    assert.same({ 1, 2 }, q:peek()[1].headers)
  end)
end)

describe("traceparent", function()
  local PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

  -- The trace of the item that is taken, which is given this outcome.
  local function taken(queue, mark)
    local batch = assert(queue:take())
    assert.equal(1, #batch)
    local found = batch:item(1).headers.traceparent
    mark(batch)
    assert(batch:settle())
    return found
  end

  local function retry(batch) batch:retry { delay = 0 } end
  local function dead(batch) batch:dead { error = "no" } end
  local function done(batch) batch:done() end

  it("stays through retry, death and replay, export, import and move",
     function()
    open(recorder())
    q:push("a", { headers = { traceparent = PARENT } })
    assert.equal(PARENT, taken(q, retry))
    assert.equal(PARENT, taken(q, dead))
    assert.equal(PARENT, q.dead:list()[1].headers.traceparent)
    q.dead:replay {}
    local w = transfer.writer()
    assert(respool.export { queue = q, writer = w })
    local other = assert(helper.open(helper.location()))
    local into = assert(other:queue "orders")
    assert(respool.import { to = into, reader = transfer.reader(w) })
    local last = assert(other:queue "last")
    assert(into:move(into:peek()[1].id, last))
    assert.equal(PARENT, taken(last, done))
    assert.equal(PARENT, taken(q, done))
  end)
end)
