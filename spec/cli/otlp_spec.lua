-- SPDX-License-Identifier: MIT
--
-- Traces and metrics by OTLP: what a collector is sent by programs, by `respool
-- work` and by `respool deliver`, and what becomes of them when it takes none.

local cli = require "spec.helper.cli"
local collector = require "spec.helper.servers.collector"
local core = require "respool.core"
local endpoint = require "spec.helper.servers.http_endpoint"
local helper = require "spec.helper"
local odd_server = require "spec.helper.servers.odd_server"
local respool = require "respool"

local TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
local PARENT = "00f067aa0ba902b7"
local TRACEPARENT = ("00-%s-%s-01"):format(TRACE, PARENT)

local there, tracer, store, q, said

-- A store whose tracer sends to a collector that answers so.
local function open(given, options)
  said = {}
  there = collector.start()
  local o = {
    log = function(level, message, fields)
      table.insert(said, { level, message, fields.spans, fields.reason })
    end,
  }
  o.timeout = 60
  for name, value in pairs(given or {}) do o[name] = value end
  o.url = there:url(o.url)
  tracer = respool.otlp(o)
  store = assert(helper.open(helper.location(), {
    clock = "manual", tracer = tracer, log = false,
  }))
  q = assert(store:queue("orders", options))
end

-- The spans that the collector was sent, by operation.
local function sent()
  local by_name = {}
  for _, span in ipairs(there:spans()) do
    local name = span.fields["messaging.operation.name"]
    by_name[name] = by_name[name] or {}
    table.insert(by_name[name], span)
  end
  return by_name
end

local function work(handler)
  return assert(q:work(handler, { stop_when_empty = true }))
end

describe("respool.otlp", function()
  it("sends a span of each verb, all in the trace of the push", function()
    open()
    q:push("a")
    work(function() end)
    assert.is_true(tracer.close(30))
    local spans = sent()
    local push, handle = spans.push[1], spans.handle[1]
    assert.equal("push orders", push.name)
    assert.equal(4, push.kind)
    assert.is_nil(push.parentSpanId)
    assert.equal("handle orders", handle.name)
    assert.equal(5, handle.kind)
    for _, span in ipairs { handle, spans.take[1], spans.settle[1] } do
      assert.equal(push.traceId, span.traceId)
      assert.equal(push.spanId, span.parentSpanId)
      assert.same({ { traceId = push.traceId, spanId = push.spanId } },
                  span.links)
      assert.is_nil(span.status)
    end
    assert.equal(3, spans.take[1].kind)
    assert.equal(3, spans.settle[1].kind)
    assert.same({
      ["messaging.system"] = "respool",
      ["messaging.operation.name"] = "handle",
      ["messaging.operation.type"] = "process",
      ["messaging.destination.name"] = "orders",
      ["messaging.message.id"] = "1",
      ["messaging.respool.deliveries"] = 1,
      ["messaging.respool.attempts"] = 0,
      ["messaging.respool.outcome"] = "done",
    }, handle.fields)
    assert.same({ "send", "receive", "settle" }, {
      push.fields["messaging.operation.type"],
      spans.take[1].fields["messaging.operation.type"],
      spans.settle[1].fields["messaging.operation.type"],
    })
    assert.equal("respool", push.resource["service.name"])
  end)

  it("draws other numbers in a process that was forked", function()
    local code = [[
      local context = require "respool.otlp.context"
      local core = require "respool.core"
      context.new(nil, 1)
      local pid, pipe = core.process.fork()
      local id = context.new(nil, 1).trace
      if pid == 0 then core.process.exit(0, pipe, id) end
      repeat until core.process.wait(pid)
      print(id ~= core.process.last_words(pipe) and "differs")
    ]]
    local process = helper.spawn(code)
    process:expect "differs"
  end)

  it("has the time of the store", function()
    open()
    q:push "a"
    tracer.close(30)
    local span = sent().push[1]
    assert.equal(("%.0f"):format(math.floor(store:now())),
                 span.startTimeUnixNano:sub(1, -10))
    assert.equal(#span.startTimeUnixNano, #span.endTimeUnixNano)
    assert.is_true(span.startTimeUnixNano <= span.endTimeUnixNano)
  end)

  it("goes on with the trace of a request, through retry and replay",
     function()
    open(nil, { max_attempts = 2 })
    q:push("a", { headers = { traceparent = TRACEPARENT, tracestate = "x=1" } })
    work(function(_, item)
      if item.attempts == 0 then return respool.retry { delay = 0 } end
      return nil, { message = "no", group = "smtp" }
    end)
    assert(q.dead:replay {})
    work(function() end)
    tracer.close(30)
    local spans = sent()
    assert.equal(3, #spans.handle)
    for _, span in ipairs(spans.handle) do
      assert.equal(TRACE, span.traceId)
      assert.equal(PARENT, span.parentSpanId)
      assert.equal("x=1", span.traceState)
    end
    assert.same({ 3, TRACE, PARENT }, { spans.push[1].kind,
      spans.push[1].traceId, spans.push[1].links[1].spanId })
    assert.same({ code = 2 }, spans.handle[1].status)
    assert.equal("_OTHER", spans.handle[1].fields["error.type"])
    assert.same({ code = 2, message = "no" }, spans.handle[2].status)
    assert.equal("smtp", spans.handle[2].fields["error.type"])
    assert.is_nil(spans.handle[3].status)
  end)

  -- A collector refuses a request whole for a text that is none.
  it("sends no tracestate that is none", function()
    open()
    for _, state in ipairs { "a=\255", "a=\nb", "", ("a"):rep(513), 7 } do
      q:push("a", { headers = { traceparent = TRACEPARENT,
                                tracestate = state } })
    end
    tracer.close(30)
    local pushes = sent().push
    assert.equal(5, #pushes)
    for _, span in ipairs(pushes) do
      assert.same({ TRACE }, { span.traceId, span.traceState })
      assert.is_nil(span.links[1].traceState)
    end
  end)

  it("puts what a handler pushes into its trace", function()
    open()
    local more = store:queue "more"
    q:push "a"
    work(function(_, item)
      more:push "b"
      item:push(more, "c")
    end)
    tracer.close(30)
    local spans, seen = sent(), more:peek(2)
    for i = 2, 3 do
      local push = spans.push[i]
      assert.equal(spans.handle[1].spanId, push.parentSpanId)
      assert.equal(("00-%s-%s-01"):format(push.traceId, push.spanId),
                   seen[i - 1].headers.traceparent)
    end
    assert.equal("create", spans.push[3].fields["messaging.operation.type"])
  end)

  it("links a batch to all its items", function()
    open()
    for i = 1, 3 do q:push(i) end
    q:work_batches(function() end, { batch = 3, stop_when_empty = true })
    tracer.close(30)
    local spans = sent()
    for _, name in ipairs { "take", "handle", "settle" } do
      local span = spans[name][1]
      assert.equal(3, #span.links)
      assert.equal(spans.push[3].spanId, span.links[3].spanId)
      assert.is_nil(span.parentSpanId)
      assert.equal(3, span.fields["messaging.batch.message_count"])
    end
  end)

  it("sends what is sampled: as the parent says, else by chance", function()
    open { sample = 0 }
    q:push "a"
    q:push("b", { headers = { traceparent = TRACEPARENT } })
    q:push("c", { headers = { traceparent = TRACEPARENT:gsub("01$", "00") } })
    assert.matches("^00%-%x+%-%x+%-00$", q:peek()[1].headers.traceparent)
    work(function() end)
    tracer.close(30)
    assert.same({ 1, 1 }, { #sent().push, #sent().handle })
    assert.equal(TRACE, sent().handle[1].traceId)
  end)

  it("begins a trace where a traceparent is none", function()
    open()
    for _, text in ipairs {
      "", "00-abc", TRACEPARENT:upper(), TRACEPARENT .. "-x",
      TRACEPARENT:gsub("^00", "ff"), "00-" .. ("0"):rep(32) .. "-"
      .. PARENT .. "-01",
    } do
      q:push("a", { headers = { traceparent = text } })
    end
    q:push("b", { headers = { traceparent = TRACEPARENT:gsub("^00", "01")
      .. "-later" } })
    tracer.close(30)
    local pushes = sent().push
    for i = 1, 6 do assert.is_nil(pushes[i].parentSpanId) end
    assert.equal(PARENT, pushes[7].parentSpanId)
  end)

  it("sends texts of any bytes", function()
    open(nil, { max_attempts = 1 })
    q:push "a"
    work(function() error("\255\0" .. ("é"):rep(2000), 0) end)
    tracer.close(30)
    local message = sent().handle[1].status.message
    assert.equal("\\xff", message:sub(1, 4))
    assert.is_true(#message <= 1024)
  end)

  it("sends metrics under their names", function()
    open(nil, { max_attempts = 1 })
    q:push_many { "a", "b" }
    work(function(payload)
      if payload == "b" then error({ message = "no", group = "smtp" }) end
    end)
    tracer.close(30)
    local metrics = there:metrics()
    local sum = metrics["messaging.client.sent.messages"].sum.dataPoints
    assert.same({ 1, "2" }, { #sum, sum[1].asInt })
    assert.equal("2", metrics["messaging.client.consumed.messages"]
      .sum.dataPoints[1].asInt)
    local points = metrics["messaging.process.duration"].histogram.dataPoints
    assert.equal(2, #points)
    for _, point in ipairs(points) do
      local n = 0
      for _, count in ipairs(point.bucketCounts) do n = n + tonumber(count) end
      assert.same({ "1", 1 }, { point.count, n })
      assert.equal(#point.bucketCounts, #point.explicitBounds + 1)
    end
    assert.is_nil(points[1].fields["error.type"])
    assert.equal("smtp", points[2].fields["error.type"])
    local names = {}
    for _, point in ipairs(metrics["messaging.client.operation.duration"]
                             .histogram.dataPoints) do
      names[#names + 1] = point.fields["messaging.operation.name"]
    end
    table.sort(names)
    assert.same({ "push", "settle", "take" }, names)
  end)

  it("keeps so many spans in memory, and counts the others", function()
    open { buffer = 3, batch = 100, interval = 3600 }
    for i = 1, 10 do q:push(i) end
    -- Three are under way.
    assert.same({ sent = 0, dropped = 4, waiting = 6,
                  error = "the buffer is full" }, tracer.stats())
    tracer.close(30)
    assert.equal(6, #sent().push)
    local n = 0
    for _, line in ipairs(said) do
      assert.same({ "warn", "spans were dropped", "the buffer is full" },
                  { line[1], line[2], line[4] })
      n = n + line[3]
    end
    assert.equal(4, n)
  end)

  it("sends a buffer that is full, although no batch is", function()
    open { buffer = 3, batch = 100, interval = 3600 }
    for i = 1, 4 do q:push(i) end
    assert.same({ 0, 4 }, { tracer.stats().dropped, tracer.stats().waiting })
  end)

  it("drops what a collector refuses for good, and says so", function()
    open { url = "400" }
    q:push "a"
    assert.is_false(tracer.close(30))
    assert.equal(1, tracer.stats().dropped)
    assert.same({ "warn", "spans were dropped", 1, "status 400" }, said[1])
    assert.equal(1, #there:bodies "/v1/traces")
  end)

  it("counts what a collector refuses of a batch", function()
    for text, refused in pairs {
      ['{"partialSuccess":{"rejectedSpans":"2","errorMessage":"no"}}'] = 2,
      ['{"partialSuccess":{"rejectedSpans":9}}'] = 3,
      ['{"partialSuccess":{"rejectedSpans":"-5"}}'] = 0,
      ['{"partialSuccess":{"rejectedSpans":null}}'] = 0,
      ['{"partialSuccess":{}}'] = 0, ["[]"] = 0, ["{"] = 0,
    } do
      local answer = ("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"):format(
        #text, text)
      tracer = respool.otlp { url = odd_server.start(answer).base, timeout = 60,
                              log = function() end }
      local other = assert(helper.open(helper.location(), { tracer = tracer }))
      for i = 1, 3 do assert(other:queue "orders":push(i)) end
      tracer.close(60)
      assert.same({ 3 - refused, refused },
                  { tracer.stats().sent, tracer.stats().dropped }, text)
    end
  end)

  it("tries again what it may take later", function()
    open { url = "503~0,200", interval = 0.001 }
    q:push "a"
    repeat
      tracer.tick(false)
      core.process.nap(0.005)
    until tracer.stats().sent + tracer.stats().dropped > 0
    assert.same({ sent = 1, dropped = 0, waiting = 0 }, tracer.stats())
    local bodies = there:bodies "/v1/traces"
    assert.equal(2, #bodies)
    assert.same(bodies[1], bodies[2])
  end)

  it("waits for nobody, and gives up at the end", function()
    open { url = "hang", batch = 1 }
    for i = 1, 5 do q:push(i) end
    work(function() end)
    assert.equal(0, tracer.stats().sent)
    assert.is_false(tracer.close(0.1))
    assert.equal(tracer.stats().dropped, said[1][3])
    assert.equal("no answer in time", said[1][4])
    assert.equal(0, tracer.stats().waiting)
  end)

  it("refuses bad options, naming them", function()
    for name, value in pairs {
      url = "nowhere", sample = 2, headers = { a = "b\n" }, batch = 0,
      resource = { 1 }, interval = 0, log = 1,
    } do
      assert.error_matches(function() respool.otlp { [name] = value } end,
                           ("respool.otlp: option '%s'"):format(name))
    end
    assert.error_matches(function() respool.otlp {} end, "'url' is missing")
  end)
end)

describe("The collector of the specs", function()
  it("finds out what is not OTLP", function()
    open()
    q:push "a"
    tracer.close(30)
    local body
    for _, request in ipairs(there.server:requests()) do
      if request.path:find "traces" then body = request.body end
    end
    local function checked(pattern, by)
      local changed, n = body:gsub(pattern, by, 1)
      assert.equal(1, n)
      return pcall(collector.check, "/v1/traces", changed)
    end
    assert.is_true(checked("push orders", "push others"))
    assert.is_false(checked('"kind":4', '"kind":"PRODUCER"'))
    assert.is_false(checked('"kind":4', '"sort":4'))
    assert.is_false(checked('"startTimeUnixNano":"(%d+)"',
                            '"startTimeUnixNano":%1'))
    assert.is_false(checked('"spanId":"..', '"spanId":"xx'))
    assert.is_false(checked('"intValue":"(%d+)"', '"intValue":%1'))
  end)
end)

describe("respool work --otlp", function()
  local dir, place

  before_each(function()
    there = collector.start()
    dir = helper.dir()
    place = dir .. "/store"
    store = assert(helper.open(place))
    q = assert(store:queue("q", { max_attempts = 1 }))
    helper.write(dir .. "/worker.lua", [[
      return { queue = "q", handle = function(payload)
        if payload == 2 then error({ message = "no", group = "odd" }) end
      end }
    ]])
    q:push(1, { headers = { traceparent = TRACEPARENT } })
    q:push(2)
    store:close()
  end)

  local function run(words)
    local all = { "work", place, dir .. "/worker.lua", "--until-empty" }
    for _, word in ipairs(words) do all[#all + 1] = word end
    all.env = "OTEL_EXPORTER_OTLP_TIMEOUT=60000 " .. (words.env or "")
    return cli.run(all)
  end

  it("sends what its workers did, at the end all of it", function()
    local result = run { "--otlp", there:url(), "--workers", "2" }
    assert.equal(1, result.status)
    assert.is_nil(result.err:find "dropped")
    local handles = sent().handle
    table.sort(handles, function(a, b)
      return a.fields["messaging.message.id"] < b.fields["messaging.message.id"]
    end)
    assert.equal(2, #handles)
    assert.equal(TRACE, handles[1].traceId)
    assert.is_nil(handles[2].parentSpanId)
    assert.equal("odd", handles[2].fields["error.type"])
    assert.is_not_nil(there:metrics()["messaging.process.duration"])
  end)

  it("is asked for by the environment as well", function()
    local result = run { env = table.concat({
      "OTEL_EXPORTER_OTLP_ENDPOINT=" .. there:url(),
      "OTEL_SERVICE_NAME=mailer", "OTEL_RESOURCE_ATTRIBUTES=zone=a%20b,x=1",
      "OTEL_EXPORTER_OTLP_HEADERS=api-key=s%3D1",
    }, " ") }
    assert.equal(1, result.status)
    local resource = sent().handle[1].resource
    assert.same({ "mailer", "a b", "1" },
                { resource["service.name"], resource.zone, resource.x })
    assert.equal("s=1", there.server:requests()[1].headers["api-key"])
  end)

  it("sends nothing where the environment turns it off", function()
    for _, off in ipairs {
      "OTEL_SDK_DISABLED=True", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
      "OTEL_TRACES_EXPORTER=none OTEL_METRICS_EXPORTER=none",
    } do
      run { env = ("OTEL_EXPORTER_OTLP_ENDPOINT=%s %s"):format(there:url(),
                                                               off) }
    end
    assert.same({}, there.server:requests())
  end)

  it("sends the one kind of records that is asked for, or elsewhere", function()
    run { env = "OTEL_TRACES_EXPORTER=none OTEL_EXPORTER_OTLP_ENDPOINT="
      .. there:url() }
    assert.same({}, there:bodies "/v1/traces")
    assert.is_not_nil(there:metrics()["messaging.process.duration"])
    store = assert(helper.open(place))
    store:queue("q"):push(3)
    store:close()
    run { env = "OTEL_METRICS_EXPORTER=none OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="
      .. there:url() .. "/elsewhere/v1/traces" }
    assert.equal(1, #there:bodies "/elsewhere/v1/traces")
    assert.equal(1, #there:bodies "/v1/metrics")
  end)

  it("says in a line what could not be sent", function()
    local result = run { "--otlp", there:url "400" }
    assert.equal(1, result.status)
    assert.matches("respool: spans were dropped %(reason=status 400 "
      .. "spans=%d+ url=http://", result.err)
  end)

  it("refuses what is no URL", function()
    cli.assert_refused(run { "--otlp", "nowhere" }, 2, "%-%-otlp")
    local result = run { "--otlp", "http://me:secret@host" }
    cli.assert_refused(result, 2, "//...@host' is not a URL without a user")
    assert.not_matches("secret", result.err)
  end)

  it("ignores variables that say nothing, with a word", function()
    for _, env in ipairs {
      "OTEL_TRACES_SAMPLER=odd", "OTEL_BSP_SCHEDULE_DELAY=x",
      "OTEL_EXPORTER_OTLP_HEADERS=x", "OTEL_EXPORTER_OTLP_ENDPOINT=nowhere",
      "OTEL_TRACES_EXPORTER=zipkin",
    } do
      local result = run { env = env .. " OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="
        .. there:url() .. "/v1/traces" }
      assert.matches(env:match "^[^=]*" .. " is ignored", result.err)
    end
  end)
end)

describe("respool deliver --otlp", function()
  it("sends the context of the delivery along, and its span", function()
    there = collector.start()
    local receiver, place = endpoint.start(), helper.location()
    store = assert(helper.open(place))
    q = assert(store:queue "hooks")
    q:push({ n = 1 }, { headers = { traceparent = TRACEPARENT } })
    store:close()
    local run = cli.process { "deliver", place, "hooks", "--url",
                              receiver:url "202", "--until-empty",
                              "--otlp", there:url(),
                              env = "OTEL_EXPORTER_OTLP_TIMEOUT=60000" }
    assert.equal(0, run.status)
    local handle = sent().handle[1]
    assert.equal(TRACE, handle.traceId)
    assert.equal(("00-%s-%s-01"):format(TRACE, handle.spanId),
                 receiver:requests()[1].headers.traceparent)
  end)
end)
