-- SPDX-License-Identifier: MIT
--
-- respool.http: what is sent, what becomes of an item by the answer,
-- and which of several URLs are called.

local endpoint_of = require "spec.helper.servers.http_endpoint"
local helper = require "spec.helper"
local respool = require "respool"
local socket = require "socket"

local empty = { stop_when_empty = true }

local store, q, endpoint

before_each(function()
  store = helper.store()
  q = assert(store:queue("hooks", {
    max_attempts = 3, retry = respool.backoff.constant { delay = 1 },
  }))
  endpoint = endpoint_of.start()
end)

local function handler(actions, options)
  local o = { url = endpoint:url(actions) }
  for name, value in pairs(options or {}) do o[name] = value end
  return respool.http(o)
end

local function urls(...)
  local list = {}
  for i = 1, select("#", ...) do
    list[i] = endpoint:url((select(i, ...)))
  end
  return list
end

-- Delivers one payload, and returns what the endpoint got first.
local function send(payload, options, push)
  q:push(payload, push)
  q:work(handler("202", options), empty)
  return endpoint:requests()[1]
end

-- Tries a payload once; returns the item as it is then, its dead letter if
-- dead.
local function try(h)
  q:push { n = 1 }
  q:work(h, { limit = 1 })
  return q:peek(1)[1] or q:each()() or q.dead:oldest()
end

local function delay_of(item)
  return item.visible_at - store:now()
end

-- Seconds for which the queue is held after it has delivered one payload.
local function held_by(h)
  q:push { n = 1 }
  q:work(h, { limit = 1 })
  return q:stats().held_until - store:now()
end

describe("A request of respool.http", function()
  it("is a POST of JSON, with what tells the item", function()
    local r = send { b = { 1, 2 }, a = "ä", e = respool.array {} }
    assert.same({ "POST", "/202", '{"a":"ä","b":[1,2],"e":[]}' },
                { r.method, r.path, r.body })
    local h = r.headers
    assert.same({ "application/json", "hooks", "1", "1" },
                { h["content-type"], h["respool-queue"], h["respool-id"],
                  h["respool-attempt"] })
    assert.equal(endpoint.base, "http://" .. h.host)
    assert.matches("^hooks%-1%-%d+$", h["idempotency-key"])
  end)

  it("is the same for the next attempt but for its number", function()
    q:push "x"
    q:work(handler "503,202", empty)
    local unpack = table.unpack or unpack -- luacheck: ignore
    local a, b = unpack(endpoint:requests())
    assert.same({ "1", "2" }, { a.headers["respool-attempt"],
                                b.headers["respool-attempt"] })
    assert.equal(a.headers["idempotency-key"], b.headers["idempotency-key"])
    assert.equal(a.body, b.body)
  end)

  it("is the bytes of a string that came with its type", function()
    local bytes = "a\0\255\r\n"
    local r = send(bytes, nil, { headers = { ["Content-Type"] = "x/y" } })
    assert.same({ "x/y", "5" },
                { r.headers["content-type"], r.headers["content-length"] })
  end)

  it("is raw, CBOR, or what a function makes of it", function()
    q:push "abc"
    q:work(handler("202", { body = "raw" }), empty)
    q:push "abc"
    q:work(handler("202", { body = "cbor" }), empty)
    q:push "abc"
    q:work(handler("202", { body = function(payload, item)
      return payload:upper() .. item.id, "text/x"
    end }), empty)
    local got = {}
    for i, r in ipairs(endpoint:requests()) do
      got[i] = { r.body, r.headers["content-type"] }
    end
    assert.same({
      { "abc", "application/octet-stream" }, { "cabc", "application/cbor" },
      { "ABC3", "text/x" },
    }, got)
  end)

  it("is a dead letter when the payload has no such body", function()
    q:push { 1 }
    q:work(handler("202", { body = "raw" }), empty)
    assert.same({ "rejected", "body" },
                { q.dead:oldest().reason, q.dead:oldest().group })
    assert.same({}, endpoint:requests())
  end)

  it("has no header that nobody asked for, and each that is asked for",
     function()
    local r = send("x", { body = function() return "bytes" end,
                          headers = { ["X-Empty"] = "" } })
    local names = {}
    for name in pairs(r.headers) do names[#names + 1] = name end
    table.sort(names)
    assert.equal("accept accept-encoding content-length host idempotency-key "
      .. "respool-attempt respool-id respool-queue user-agent x-empty",
      table.concat(names, " "))
    assert.equal("", r.headers["x-empty"])
  end)

  it("passes trace context on, and what else is asked for", function()
    local r = send("x", { pass = { "X-Event" }, headers = { Extra = "1" } }, {
      headers = { traceparent = "00-ab-cd-01", tracestate = "a=b",
                  ["x-event"] = "push", other = "no", ["x-bad"] = "a\r\nb: c" },
    })
    local h = r.headers
    assert.same({ "00-ab-cd-01", "a=b", "push", "1" },
                { h.traceparent, h.tracestate, h["x-event"], h.extra })
    assert.same({ nil, nil, nil }, { h.other, h["x-bad"], h.b })
  end)

  it("never lets a header of the item end its line", function()
    local r = send("x", { pass = { "x-bad" } },
                   { headers = { ["x-bad"] = "a\r\nb: c" } })
    assert.same({}, { r.headers["x-bad"], r.headers.b })
  end)

  it("is signed as Standard Webhooks says, by each secret", function()
    local r = send({ a = 1 }, {
      secret = { "it's a secret", "whsec_bmV4dA==" },
    })
    local h = r.headers
    assert.equal(h["idempotency-key"], h["webhook-id"])
    assert.near(os.time(), tonumber(h["webhook-timestamp"]), 60)
    local file = helper.dir() .. "/signed"
    helper.write(file, ("%s.%s.%s"):format(h["webhook-id"],
                                           h["webhook-timestamp"], r.body))
    local function signature(secret)
      return "v1," .. helper.sh(([[openssl dgst -sha256 -hmac "%s" -binary %s \
        | openssl base64]]):format(secret, file))
    end
    assert.equal(signature "it's a secret" .. " " .. signature "next",
                 h["webhook-signature"])
  end)

  it("is signed over time and body in the older way", function()
    local r = send({ a = 1 }, {
      secret = "it's a secret", signature = "respool",
    })
    local signed = r.headers["respool-timestamp"] .. "." .. r.body
    local file = helper.dir() .. "/signed"
    helper.write(file, signed)
    local digest = helper.sh(
      [[openssl dgst -sha256 -hmac "it's a secret" ]] .. file)
    assert.equal("v1=" .. digest:match "(%x+)$",
                 r.headers["respool-signature"])
    assert.near(os.time(), tonumber(r.headers["respool-timestamp"]), 60)
  end)

  it("goes over a connection that is used again", function()
    q:push_many { "1", "2", "3", "4", "5" }
    q:work(handler "202", empty)
    q:push_many { "6", "7" }
    q:work(handler "chunked", empty)
    local numbers = {}
    for i, r in ipairs(endpoint:requests()) do numbers[i] = r.connection end
    assert.same({ 1, 1, 1, 1, 1, 1, 1 }, numbers)
  end)

  it("spends nothing on a connection that the other side has left", function()
    q:push_many { "1", "2", "3" }
    assert.equal(3, q:work(handler "leave", { limit = 3 }).done)
    q:push_many { "1", "2" }
    assert.equal(2, q:work(handler "bye", { limit = 2 }).done)
    q:push_many { "1", "2" }
    assert.equal(2, q:work(handler "bare", { limit = 2 }).done)
  end)

  -- One was kept for every host, without a bound: after a thousand hosts no
  -- more could be opened, and every item for a new one died.
  it("keeps few connections, whatever hosts it goes to", function()
    local function descriptors()
      return tonumber((helper.sh "ls /proc/$PPID/fd | wc -l"))
    end
    local port, before = endpoint.base:match "%d+$", descriptors()
    local n = 100
    for i = 1, n do q:push(("h%d.localhost"):format(i)) end
    local counts = q:work(respool.http {
      url = function(host) return ("http://%s:%s/202"):format(host, port) end,
    }, empty)
    assert.equal(n, counts.done)
    assert.is_true(descriptors() - before <= 64 + 2)
    local seen = {}
    for _, r in ipairs(endpoint:requests()) do seen[r.connection] = true end
    assert.equal(n, #seen)
  end)

  it("goes where the item says", function()
    q:push("x", { headers = { url = endpoint:url "202" } })
    q:push("y", { headers = { url = "nowhere" } })
    q:work(respool.http {
      url = function(_, item) return item.headers.url end,
    }, empty)
    assert.same({ "202" }, endpoint:paths())
    assert.equal("url", q.dead:oldest().group)
  end)

  it("is told to on_request, without what may be secret", function()
    local told = {}
    q:push "x"
    q:work(handler("202?token=1", { on_request = function(r)
      told[#told + 1] = r
    end }), empty)
    assert.equal(1, #told)
    assert.same({ endpoint:url "202", 202 }, { told[1].url, told[1].status })
  end)
end)

describe("An answer", function()
  it("of 2xx is done, however it comes", function()
    for _, actions in ipairs { "200", "202", "204", "299", "chunked", "fat",
                               "hints", "late", "bare" } do
      q:push "x"
      assert.equal(1, q:work(handler(actions), { limit = 1 }).done)
    end
  end)

  it("is the result of the item, where the queue keeps results", function()
    q = assert(store:queue("kept", { keep_done = 60 }))
    local id = assert(q:push { n = 1 })
    q:work(handler "202", empty)
    local result = assert(q:result(id))
    assert.equal(202, result.status)
    assert.equal(endpoint:url "202", result.url)
    assert.is_true(#result.body > 0)
  end)

  it("of each of several URLs is the result by URL", function()
    q = assert(store:queue("kept", { keep_done = 60 }))
    local id = assert(q:push { n = 1 })
    q:work(respool.http { url = urls("201", "202") }, empty)
    local result = assert(q:result(id))
    assert.equal(201, result[endpoint:url "201"].status)
    assert.equal(202, result[endpoint:url "202"].status)
  end)

  it("of 408, 425, 429 and 5xx is tried again by policy", function()
    for i, status in ipairs { 408, 425, 429, 500, 502, 503, 599 } do
      local item = try(handler(tostring(status)))
      assert.same({ i, 1 }, { item.id, item.attempts })
      assert.near(1, delay_of(item), 0.01)
      assert.matches(("HTTP %d: said the endpoint$"):format(status), item.error)
      q:remove(item.id)
    end
  end)

  it("of other 4xx is a dead letter, its status the group", function()
    for _, status in ipairs { 400, 401, 404, 409, 410, 422, 499 } do
      local dead_letter = try(handler(tostring(status)))
      assert.same({ "rejected", tostring(status), 1 },
                  { dead_letter.reason, dead_letter.group,
                    #dead_letter.history })
      q.dead:remove(dead_letter.number)
    end
  end)

  it("of 3xx is a dead letter: no redirect is followed", function()
    for _, status in ipairs { 301, 302, 303, 307, 308 } do
      local dead_letter = try(handler(tostring(status)))
      assert.equal(tostring(status), dead_letter.group)
      assert.matches("redirects to http://127.0.0.1:9/else, which is not",
                     dead_letter.error)
      q.dead:remove(dead_letter.number)
    end
  end)

  it("is a dead letter of its status when it is the last attempt", function()
    q:push "x"
    q:work(handler "503", empty)
    local dead_letter = q.dead:oldest()
    assert.same({ "exhausted", "503", 3 },
                { dead_letter.reason, dead_letter.group, #dead_letter.history })
  end)

  -- Each of 300 items spent an attempt with a receiver of ten a second: 240
  -- died.
  it("with Retry-After holds the queue, and no attempt is spent", function()
    for i, path in ipairs { "503~7", "429~7" } do
      assert.near(7, held_by(handler(path)), 0.1)
      assert.same({ "ready", 0 }, { q:get(i).state, q:get(i).attempts })
      assert.equal(i, #endpoint:requests())
      assert.matches("HTTP " .. path:sub(1, 3), q:stats().held_for)
      q:purge()
    end
    local seconds = held_by(handler "503~date")
    assert.is_true(seconds > 30 and seconds <= 90) -- 90 when it was said
  end)

  it("with Retry-After holds the host of one URL of several", function()
    local h = respool.http { url = urls("503~7", "202") }
    for i = 1, 3 do
      local item = try(h)
      assert.same({ i, 0 }, { item.id, item.attempts })
      assert.is_true(delay_of(item) >= 6.9 and delay_of(item) <= 8.75)
      q:purge()
    end
    assert.is_nil(q:stats().held_until)
  end)

  it("with Retry-After brings items of several URLs back apart", function()
    local h, delays = respool.http { url = urls("429~100", "429~101") }, {}
    for i = 1, 20 do
      local delay = delay_of(try(h))
      delays[i] = math.floor(delay)
      q:purge()
    end
    table.sort(delays)
    local n = 1
    for i = 2, 20 do if delays[i] > delays[i - 1] then n = n + 1 end end
    assert.is_true(n > 10)
  end)

  it("with a Retry-After beyond belief is tried again sooner", function()
    assert.near(3600, held_by(handler "503~999999999"), 0.1)
    q:purge()
    assert.near(5, held_by(handler("503~999", { max_retry_after = 5 })), 0.1)
  end)

  it("with a Retry-After that says nothing is tried again by policy",
     function()
    for _, value in ipairs { "0", "soon", "-5", "1e9" } do
      assert.near(1, delay_of(try(handler("503~" .. value))), 0.01)
      q:purge()
    end
  end)

  it("that does not come is tried again", function()
    local silent = assert(socket.tcp4()) -- nobody listens there, nor will
    assert(silent:bind("127.0.0.1", 0))
    local _, port = silent:getsockname()
    local ways = {
      { handler "close", "closed" }, { handler "junk", "malformed" },
      { handler "long", "malformed" },
      { handler("hang", { timeout = 0.05 }), "timeout" },
      { handler("tardy", { timeout = 0.05 }), "timeout" },
      { respool.http { url = ("http://127.0.0.1:%d/"):format(port) },
        "refused" },
    }
    for _, way in ipairs(ways) do
      local item = try(way[1])
      assert.equal(1, item.attempts)
      q:remove(item.id)
      q:push "x"
      q:work(way[1], empty)
      assert.same({ "exhausted", way[2] },
                  { q.dead:oldest().reason, q.dead:oldest().group })
      q.dead:remove(q.dead:oldest().number)
    end
    silent:close()
  end)

  -- A listener whose backlog is full does not answer a SYN.
  it("is not waited for by the time of a connection", function()
    local full = assert(socket.tcp4())
    full:bind("127.0.0.1", 0)
    full:listen(0)
    local _, port = full:getsockname()
    local held = {}
    for i = 1, 4 do
      held[i] = socket.tcp4()
      held[i]:settimeout(0)
      held[i]:connect("127.0.0.1", port)
    end
    local item = try(respool.http {
      url = ("http://127.0.0.1:%d/"):format(port), connect_timeout = 0.1,
      timeout = 60,
    })
    assert.matches("no connection within 0.1 s$", item.error)
    full:close()
    for i = 1, 4 do held[i]:close() end
  end)
end)

describe("Mode all", function()
  it("calls every URL, and again only those that have not accepted", function()
    q:push "x"
    local h = respool.http { url = urls("202", "503,202", "200,500") }
    q:work(h, empty)
    local paths = endpoint:paths()
    table.sort(paths)
    assert.same({ "200,500", "202", "503,202", "503,202" }, paths)
    assert.equal(1, q:stats().done)
  end)

  it("remembers in another process, and after a replay", function()
    q:push "x"
    q:work(respool.http { url = urls("202", "422,422,202") }, empty)
    local dead_letter = q.dead:oldest()
    assert.equal("422", dead_letter.group)
    assert.matches("422,202: HTTP 422: said the endpoint$", dead_letter.error)
    store:flush()
    q.dead:retry(dead_letter.number)
    local process = helper.spawn([[
      local respool = require "respool"
      local store = assert(respool.open(arg[1], { clock = "manual" }))
      store:advance(3600)
      store:queue("hooks"):work(respool.http { url = { arg[2], arg[3] } },
                                { limit = 1 })
      store:close()
    ]], store.path, endpoint:url "202", endpoint:url "422,422,202")
    assert.equal(0, process:wait())
    local count = 0
    for _, path in ipairs(endpoint:paths()) do
      if path == "202" then count = count + 1 end
    end
    assert.equal(1, count)
  end)

  it("tells URLs apart that differ in their query only", function()
    q:push "x"
    q:work(respool.http { url = urls("503,202?a", "503,202?b") }, empty)
    assert.equal(4, #endpoint:paths())
    assert.equal(1, q:stats().done)
  end)

  it("waits as long as the longest Retry-After", function()
    local delay = delay_of(try(respool.http {
      url = urls("503~5", "429~20", "202"),
    }))
    assert.is_true(delay >= 20 and delay <= 25)
  end)

  -- A 410 of one URL took the item from the others: of 100 items 88 died
  -- without a request to the healthy one.
  it("goes on with each URL by its own answers, and dies at the end", function()
    q:push "x"
    q:work(respool.http { url = urls("410", "503,202", "404", "202") }, empty)
    local paths = endpoint:paths()
    table.sort(paths)
    assert.same({ "202", "404", "410", "503,202", "503,202" }, paths)
    local l = q.dead:oldest()
    assert.same({ "rejected", "410", 2 }, { l.reason, l.group, l.attempts })
    assert.matches("/410: HTTP 410: said.*/404: HTTP 404: said", l.error)
  end)

  it("asks all URLs at the same time", function()
    q:push "x"
    q:work(respool.http { url = urls("meet~3", "meet~3,202", "meet~3,200") },
           empty)
    assert.equal(3, #endpoint:requests())
    assert.equal(1, q:stats().done)
  end)
end)

describe("Mode first", function()
  it("calls in the order given until one accepts", function()
    q:push_many { "1", "2" }
    q:work(respool.http { mode = "first",
                          url = urls("503", "202", "200") }, empty)
    assert.same({ "503", "202", "503", "202" }, endpoint:paths())
    assert.equal(2, q:stats().done)
  end)

  it("goes on after an answer that will not change", function()
    assert.is_nil(try(respool.http { mode = "first",
                                     url = urls("404", "202") }))
    assert.equal(1, q:stats().done)
  end)

  it("is tried again if one URL may accept next time", function()
    local item = try(respool.http { mode = "first",
                                    url = urls("404", "503~9", "410") })
    assert.equal(0, item.attempts)
    assert.is_true(delay_of(item) >= 9 and delay_of(item) <= 11.25)
    q:purge()
    item = try(respool.http { mode = "first", url = urls("404", "500", "410") })
    assert.equal(1, item.attempts)
    assert.matches("404.*500.*410", item.error)
  end)

  it("is a dead letter when no URL ever will", function()
    local dead_letter = try(respool.http { mode = "first",
                                      url = urls("404", "410") })
    assert.same({ "rejected", "404" }, { dead_letter.reason,
      dead_letter.group })
  end)
end)

describe("Mode any", function()
  it("begins each item with another URL", function()
    q:push_many { "1", "2", "3", "4" }
    q:work(respool.http { mode = "any", url = urls("200", "201", "202") },
           empty)
    assert.same({ "200", "201", "202", "200" }, endpoint:paths())
  end)

  it("is content with one that accepts", function()
    q:push_many { "1", "2" }
    q:work(respool.http { mode = "any", url = urls("500", "202") }, empty)
    assert.same({ "500", "202", "202" }, endpoint:paths())
    assert.equal(2, q:stats().done)
  end)
end)

describe("A handler of respool.http", function()
  it("is a handler like any other", function()
    q:push "x"
    q:work(respool.fan_out {
      web = respool.chain(handler "503,202", handler "200"),
      log = function() end,
    }, empty)
    assert.same({ "503,202", "503,202", "200" }, endpoint:paths())
  end)

  -- A forked process must not speak over the connections of its parent.
  it("may be made before processes fork", function()
    local path = helper.location()
    local other = assert(helper.open(path))
    local forked = other:queue "forked"
    for i = 1, 30 do forked:push(i) end
    local process = helper.spawn([[
      local respool = require "respool"
      local process = require "respool.core".process
      local handler = respool.http { url = arg[2] }
      local store = respool.open(":memory:")
      store:queue "warm":push(1)
      store:queue "warm":work(handler, { limit = 1 })
      store:close()
      local pid, pipe = process.fork()
      local q = respool.open(arg[1]):queue "forked"
      q:work(handler, { stop_when_empty = true })
      q.store:close()
      if pid == 0 then process.exit(0, pipe) end
      repeat local how, status = process.wait(pid) until how
      os.exit(status)
    ]], path, endpoint:url "202")
    assert.equal(0, process:wait(), process:output())
    assert.equal(30, forked:stats().done)
    assert.equal(31, #endpoint:requests())
  end)

  it("stops between two URLs, with nothing spent or forgotten", function()
    q:push "x"
    local h = respool.http {
      url = urls("500", "202"), mode = "first",
      on_request = function() q:stop() end,
    }
    q:work(h, empty)
    assert.same({ "500" }, endpoint:paths())
    assert.equal(0, q:peek(1)[1].attempts)
    q:work(h, empty)
    assert.same({ "500", "500" }, endpoint:paths())
  end)

  it("refuses what it cannot do", function()
    local wrong = {
      { {}, "option 'url' is missing" },
      { { url = "ftp://x/" }, "'url' must be a URL with http:// or https://" },
      { { url = "http://a:b@x/" }, "without a user" },
      { { url = {} }, "'url' must be a URL, a list" },
      { { url = "http://x", mode = "some" }, '"all" or "any" or "first"' },
      { { url = "http://x", timeout = 0 }, "above 0" },
      { { url = "http://x", body = "xml" }, "'body' must be" },
      { { url = "http://x", headers = { Host = "y" } }, "but Host" },
      { { url = "http://x", headers = { a = "b\nc" } }, "table of headers" },
      { { url = "http://x", pass = { "a b" } }, "names of headers" },
      { { url = "http://x", secret = "" }, "not empty" },
      { { url = "http://x", secret = { "a", 1 } }, "not empty" },
      { { url = "http://x", secret = "whsec_?" }, "not base64" },
      { { url = "http://x:99999/" }, "a port from 1 to 65535" },
      { { url = "http://x", success = "2xx" }, "statuses such as" },
      { { url = "http://x", method = "GET" }, '"PATCH"' },
      { { url = "http://x", ca_file = "/no/such" }, "can be read" },
      { { url = "http://x", deny = "10.0.0.0/99" }, "is no network" },
      { { url = "http://x", deny = "private", proxy = "http://p:1" },
        "do not see" },
      { { url = "http://x", retries = 1 }, "unknown option 'retries'" },
    }
    for _, case in ipairs(wrong) do
      assert.error_matches(function() respool.http(case[1]) end, case[2])
    end
  end)
end)

describe("Retry-After", function()
  local answer = require "respool.http.answer"
  local date = require "respool.curl".date
  local noon = 1795348800 -- 2026-11-22T12:00:00Z

  local function seconds(text)
    return answer.retry_after(text, date, noon, 3600)
  end

  it("may be a date in each of the three forms of RFC 9110", function()
    for _, text in ipairs {
      "Sun, 22 Nov 2026 12:01:00 GMT", "Sunday, 22-Nov-26 12:01:00 GMT",
      "Sun Nov 22 12:01:00 2026",
    } do
      assert.equal(60, seconds(text))
    end
    assert.equal(3600, seconds "Mon, 23 Nov 2026 12:00:00 GMT")
  end)

  it("says nothing when it is past, or no date", function()
    for _, text in ipairs {
      "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Foo 2094 08:49:37 GMT",
      "tomorrow", "", "1.5", "0", "1e9",
    } do
      assert.is_nil(seconds(text))
    end
  end)
end)
